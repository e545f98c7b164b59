"""Control groups, version 2: a process stays in the group that it was born into, whatever else it drops.

    <the keeper's own group>/dcron-<spool>/<token>

Only membership is used, no controller, so that processes may live in groups that have groups below them.
Under systemd the unit needs `Delegate=yes` for that.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from dcron.keeper.journal import say

__all__ = ["Cgroup", "Cgroups", "find_cgroups", "group_folders"]

GROUPS_MAX = 1000
"""Groups looked at below that of a script, which may make some."""

_PROCS = "cgroup.procs"
_SELF = "0"
_OCTAL = re.compile(r"\\([0-7]{3})")
_GONE = frozenset({errno.ENOENT, errno.ENODEV})


class Cgroup:
    """The group of one script and whatever it started. One that is not there (any more) is empty."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def pids(self) -> set[int]:
        """The processes in it and in the groups below."""
        found: set[int] = set()
        for folder, _, _ in islice(os.walk(self.path), GROUPS_MAX):
            # One that has become threaded has no list of processes: its domain names them.
            with suppress(OSError):
                found.update(map(int, Path(folder, _PROCS).read_bytes().split()))
        return found

    def is_populated(self) -> bool:
        """Whether a process is in it or in a group below."""
        try:
            return b"populated 1" in (self.path / "cgroup.events").read_bytes()
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise

    def kill(self) -> None:
        """Send SIGKILL to all of it at once, so that nothing can be forked away meanwhile.

        Does nothing on a kernel before 5.14, where the processes have to be killed one by one."""
        if os.getpid() in self.pids():
            say("keeper_in_script_group", path=str(self.path))
            return
        try:
            _write(self.path / "cgroup.kill", "1")
        except OSError as error:
            if error.errno not in _GONE:
                say("cgroup_kill_refused", path=str(self.path), reason=str(error))

    def remove(self) -> bool:
        """Remove it and the groups below; False while a process is left in one."""
        try:
            self.path.rmdir()
        except OSError as error:
            if error.errno in _GONE:
                return True
        else:
            return True
        return self._remove_with_inner()

    def _remove_with_inner(self) -> bool:
        try:
            if self.is_populated():
                return False
            for folder, _, _ in islice(os.walk(self.path, topdown=False), GROUPS_MAX):
                Path(folder).rmdir()
        except OSError as error:
            return error.errno in _GONE
        return True


class Cgroups:
    """Folder of control groups for the scripts of one spool."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home = home
        self._folder = folder

    def of(self, token: str) -> Cgroup:
        """The group of a script; `enter` makes it."""
        return Cgroup(self._folder / token)

    @contextmanager
    def entered(self, cgroup: Cgroup) -> Iterator[None]:
        """Make the group and move this process there and back: what it starts meanwhile is born in it.

        Raises OSError where it could not move in."""
        cgroup.path.mkdir(exist_ok=True)
        _write(cgroup.path / _PROCS, _SELF)
        try:
            yield
        finally:
            self._return()

    def _return(self) -> None:
        try:
            _write(self._home / _PROCS, _SELF)
        except OSError as error:
            # It goes on from where it is: `Cgroup.kill` spares it, and the next start tries again.
            say("cgroup_return_refused", path=str(self._home), reason=str(error))

    def left(self, used: set[str]) -> list[Cgroup]:
        """The groups that earlier keepers left, but for those of the tokens in `used`. Raises OSError."""
        with os.scandir(self._folder) as entries:
            return [Cgroup(Path(each.path)) for each in entries if each.is_dir() and each.name not in used]

    def close(self) -> None:
        """Remove the folder of the groups, if none is left."""
        with suppress(OSError):
            self._folder.rmdir()


def find_cgroups(spool: Path) -> Cgroups | None:
    """Groups in which this process may put the scripts of a spool; None where there is no place, which is
    logged."""
    reason = "no cgroup v2 hierarchy is mounted"
    for folder in group_folders(spool):
        home = folder.parent
        cgroups = Cgroups(home, folder)
        try:
            if str(os.getpid()) not in (home / _PROCS).read_text().split():
                reason = f"{home} is not the group of this process"
                continue
            with cgroups.entered(Cgroup(folder)):
                return cgroups
        except OSError as error:
            reason = str(error)
    say("no_cgroups", reason=reason)
    return None


def group_folders(spool: Path) -> list[Path]:
    """The folder of a spool's groups below this process's own group, in each hierarchy that is mounted."""
    status = spool.stat()
    # Of this spool, so that keepers of others leave it alone; the same for the keeper that comes next.
    name = f"dcron-{status.st_dev:x}-{status.st_ino:x}"
    own = _own_group()
    return [Path(mount + own, name) for mount in _mounts()]


def _mounts() -> list[str]:
    """Mount points of cgroup v2 hierarchies."""
    lines = os.fsdecode(Path("/proc/self/mounts").read_bytes()).splitlines()
    fields = [line.split(" ") for line in lines]
    return [_OCTAL.sub(_character, place) for _, place, kind, *_ in fields if kind == "cgroup2"]


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 8))


def _own_group() -> str:
    """This process's group, as a path below the mount; outside of a namespace's root it begins with /.."""
    try:
        lines = os.fsdecode(Path("/proc/self/cgroup").read_bytes()).splitlines()
    except FileNotFoundError:
        return "/"
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")


def _write(path: Path, text: str) -> None:
    """Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
