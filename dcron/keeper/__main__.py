"""`python -m dcron.keeper SPOOL`: become the keeper of a spool, in the background.

Returns 0 once a keeper listens (this one or one that was there before), NO_ROOM_STATUS where the disk is
full, else 1; with the reason on stderr.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from pathlib import Path

from dcron.keeper.cgroups import find_cgroups
from dcron.keeper.journal import say
from dcron.keeper.protocol import LOCK_NAME, NO_ROOM_STATUS, SOCKET_NAME
from dcron.keeper.server import Keeper

__all__ = ["main"]

BACKLOG = 4


def main(arguments: list[str]) -> int:
    """Lock the spool, listen, and leave a child behind that serves; the status for the shell."""
    if len(arguments) != 1 or not Path(arguments[0]).is_absolute():
        say("keeper_usage", reason="give one argument, the absolute path of the spool")
        return 2
    spool = Path(arguments[0])
    os.umask(0o022)
    try:
        lock = _lock(spool)
        if lock is None:
            return 0
        keeper = Keeper(spool, _listen(spool), find_cgroups(spool))
    except OSError as error:
        say("keeper_refused", reason=f"{spool}: {error.strerror}")
        return NO_ROOM_STATUS if error.errno in {errno.ENOSPC, errno.EDQUOT} else 1
    # The lock and the socket pass to the child; connections wait in the backlog until it serves. With its
    # parent gone the keeper is no child of the daemon, which so has nothing to reap.
    if os.fork():
        os._exit(0)
    os.chdir("/")
    try:
        keeper.serve()
    finally:
        os.close(lock)
    return 0


def _lock(spool: Path) -> int | None:
    """A descriptor that holds the spool's lock; None where another keeper has it."""
    descriptor = os.open(spool / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _listen(spool: Path) -> socket.socket:
    """The listening socket. It is bound by a relative name, because an address holds 107 bytes only."""
    os.chdir(spool)
    Path(SOCKET_NAME).unlink(missing_ok=True)  # ours by the lock: a killed keeper left it
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(SOCKET_NAME)
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
