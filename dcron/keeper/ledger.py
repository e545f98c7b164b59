"""Record of scripts that may run and how they ended, in a file that outlives the keeper:
`<spool>/keeper.ledger`.

Each line is a JSON object about one script, named by its `token`. `will` is on the disk before the script
is started, `ended` before anybody is told of it; each for a whole batch at once, since waiting for the disk
takes longer than all else about a start. `began`, which a reboot makes void, and `dropped` are not waited
for. A keeper that comes after a killed one, or after a power cut, so knows of every script that may have
run and whose end nobody saw.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path

from dcron.keeper.journal import say

__all__ = ["LEDGER_NAME", "Facts", "Ledger", "flush_folder"]

LEDGER_NAME = "keeper.ledger"
COMPACT_BYTES = 4 << 20
"""Beyond this, and twice what mattered at the last time, the file is written anew."""

Facts = dict[str, object]


class Ledger:
    """The ledger of one spool. What is to be written is written whole, or OSError is raised."""

    def __init__(self, spool: Path) -> None:
        self._path = spool / LEDGER_NAME
        self._open: dict[str, Facts] = {}
        self._ended: dict[str, Facts] = {}
        self._descriptor = -1
        self._compact_at = COMPACT_BYTES

    def load(self) -> None:
        """Read what earlier keepers wrote, and go on with it; first of all. Raises OSError."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        for line in filter(None, lines):
            try:
                self._note(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                # Cut off by the end of an earlier keeper, or spoilt by a power cut.
                say("ledger_line_spoilt", length=len(line), reason=str(error))
        if not self._compact():
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)

    def open_entries(self) -> list[Facts]:
        """Scripts that may run, each with `token`, `folder`, and the fields of `will` and `began`."""
        return list(self._open.values())

    def ended_entries(self) -> list[Facts]:
        """Scripts that ended and may not have been delivered yet; `exit` says how each ended."""
        return list(self._ended.values())

    def end_of(self, token: str) -> Facts | None:
        """End of a script, as long as its attempt's folder is there; None where that is not known."""
        entry = self._ended.get(token)
        end = entry["exit"] if entry is not None else None
        return end if isinstance(end, dict) else None

    def will(self, entries: list[Facts]) -> None:
        """Scripts may be started once this has returned. Each entry has `token` and `folder` at least."""
        self._append([{**entry, "fact": "will"} for entry in entries], durable=True)

    def began(self, token: str, facts: Facts) -> None:
        """A script runs."""
        self._append([{**facts, "fact": "began", "token": token}], durable=False)

    def dropped(self, token: str) -> None:
        """A script was not started after all."""
        self._append([{"fact": "dropped", "token": token}], durable=False)

    def ended(self, exits: dict[str, Facts]) -> None:
        """Record how scripts ended, by token. Saying it again changes nothing."""
        self._append([{"fact": "ended", "token": each, "exit": exits[each]} for each in exits], durable=True)

    def _append(self, facts: list[Facts], *, durable: bool) -> None:
        if not facts:
            return
        # The line break goes first: half a line that a full disk left spoils no other.
        data = b"".join(b"\n" + _line(each) for each in facts)
        size_bytes = os.fstat(self._descriptor).st_size
        try:
            _write_whole(self._descriptor, data)
            if durable:
                os.fdatasync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, size_bytes)
            raise
        for each in facts:
            self._note(each)
        if size_bytes + len(data) >= self._compact_at:
            self._compact()

    def _note(self, facts: Facts) -> None:
        token = str(facts["token"])
        match facts["fact"]:
            case "will":
                self._open[token] = {"folder": facts["folder"], **facts}
            case "began" if token in self._open:
                self._open[token] |= facts
            case "dropped":
                self._open.pop(token, None)
            case "ended" if token in self._open:
                self._ended[token] = self._open.pop(token) | {"exit": facts["exit"]}

    def _compact(self) -> bool:
        """Replace the file by one without the ends that were delivered, if the disk has room for it."""
        try:
            self._write_anew()
        except OSError as error:
            say("ledger_not_compacted", reason=str(error))
            self._compact_at *= 2
            return False
        return True

    def _write_anew(self) -> None:
        # Once it is delivered, an attempt's folder is gone.
        ended = {token: entry for token, entry in self._ended.items() if Path(str(entry["folder"])).is_dir()}
        facts: list[Facts] = [{**entry, "fact": "will"} for entry in (*self._open.values(), *ended.values())]
        facts += [{"fact": "ended", "token": token, "exit": entry["exit"]} for token, entry in ended.items()]
        data = b"".join(b"\n" + _line(each) for each in facts)
        draft = self._path.with_name(LEDGER_NAME + ".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o600)
        try:
            _write_whole(descriptor, data)
            os.fsync(descriptor)
            draft.replace(self._path)
            flush_folder(self._path.parent)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._ended = descriptor, ended
        self._compact_at = max(COMPACT_BYTES, 2 * len(data))


def _write_whole(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, "the disk took only part of it")


def _line(facts: Facts) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode()


def flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
