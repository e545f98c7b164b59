"""The keeper's loop: one thread that waits for the daemon, for children and for what is due."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from pathlib import Path

from dcron.keeper.cgroups import Cgroups
from dcron.keeper.journal import say
from dcron.keeper.ledger import Ledger
from dcron.keeper.processes import become_subreaper
from dcron.keeper.protocol import SOCKET_NAME, VERSION, Frames, ProtocolError, encode
from dcron.keeper.script import Request
from dcron.keeper.table import Table

__all__ = ["Keeper"]

IDLE_SECONDS = 5.0
"""Time for which a keeper without scripts waits for a daemon: long enough for one that restarts."""
UNSENT_BYTES_MAX = 4 << 20
"""A daemon that leaves more than this unread is hung up on; it learns the rest when it connects again."""
READ_BYTES = 1 << 16
ERROR_PAUSE_SECONDS = 0.2


class Connection:
    """The daemon at the other end of the socket."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setblocking(False)
        self.socket = peer
        self.unsent = bytearray()
        self._frames = Frames()

    def receive(self) -> list[dict[str, object]]:
        """Messages that have come; raises ConnectionError at the end, ProtocolError for nonsense."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionError("hung up")
        return self._frames.feed(data)

    def send(self, message: dict[str, object]) -> None:
        """Send now what the socket takes, keep the rest; raises ConnectionError."""
        self.unsent += encode(message)
        self.flush()
        if len(self.unsent) > UNSENT_BYTES_MAX:
            raise ConnectionError("does not read what it is sent")

    def flush(self) -> None:
        """Send what the socket takes; raises ConnectionError."""
        try:
            while self.unsent:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            return


class Keeper:
    """Serves one daemon at a time until there is nothing left to keep."""

    def __init__(self, spool: Path, listener: socket.socket, cgroups: Cgroups | None) -> None:
        self._socket_path = spool / SOCKET_NAME
        self._listener = listener
        self._table = Table(Ledger(spool), cgroups)
        self._connection: Connection | None = None
        self._idle_since = time.monotonic()
        self._told_to_end = False
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Run until no script is left and no daemon has been there for a while, or SIGTERM has come."""
        become_subreaper()
        self._catch_signals()
        self._table.adopt()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        while not self._done():
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - ending would lose the end of every script that runs
                trace = error.__traceback__
                say("keeper_error", reason=repr(error), line=trace.tb_lineno if trace else 0)
                time.sleep(ERROR_PAUSE_SECONDS)
        self._table.close()
        self._socket_path.unlink(missing_ok=True)

    def _step(self) -> None:
        for key, events in self._selector.select(self._wait_seconds()):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fd == self._waker:
                os.read(self._waker, READ_BYTES)
            # A connection that was replaced in this very round may still have events.
            elif self._connection is not None and key.fileobj is self._connection.socket:
                self._talk(self._connection, events)
        self._table.reap()
        self._table.tick()
        for token in self._table.take_exited():
            self._send({"event": "exited", "token": token})

    def _catch_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end_soon)

    def _end_soon(self, *_: object) -> None:
        self._told_to_end = True

    def _done(self) -> bool:
        if self._connection is not None or self._table.tokens():
            self._idle_since = time.monotonic()
        if self._table.tokens():
            return False
        return self._told_to_end or time.monotonic() >= self._idle_since + IDLE_SECONDS

    def _wait_seconds(self) -> float | None:
        seconds = self._table.wait_seconds()
        if seconds is None and self._connection is None:
            return max(0.0, self._idle_since + IDLE_SECONDS - time.monotonic())
        return seconds

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        self._send({"event": "replaced"})
        self._hang_up("replaced")
        self._connection = Connection(peer)
        self._selector.register(peer, selectors.EVENT_READ)
        self._send({"hello": self._hello()})

    def _hello(self) -> dict[str, object]:
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "control_groups": self._table.has_control_groups,
            "running": self._table.tokens(),
        }

    def _talk(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                connection.flush()
            messages = connection.receive() if events & selectors.EVENT_READ else []
            for message in messages:
                self._send({"id": message.get("id"), **self._answer(message)})
        except ConnectionError as error:
            self._hang_up(str(error))
        except ProtocolError as error:
            say("protocol_error", reason=str(error))
            self._hang_up(str(error))
        self._watch_connection()

    def _answer(self, message: dict[str, object]) -> dict[str, object]:
        what = message.get("do")
        if what == "start":
            starts = message.get("starts")
            if not isinstance(starts, list) or not all(isinstance(each, dict) for each in starts):
                raise ProtocolError("starts: not a list of objects")
            return {"results": self._table.start([Request(each) for each in starts])}
        if what == "cancel":
            return {"stopping": self._table.cancel(str(message.get("token")))}
        if what == "list":
            return {"running": self._table.tokens()}
        raise ProtocolError(f"do: {what!r} is not known")

    def _send(self, message: dict[str, object]) -> None:
        if self._connection is None:
            return
        try:
            self._connection.send(message)
        except ConnectionError as error:
            self._hang_up(str(error))
        self._watch_connection()

    def _watch_connection(self) -> None:
        """Wait for the socket to take more only while there is more."""
        if self._connection is not None:
            writing = selectors.EVENT_WRITE if self._connection.unsent else 0
            self._selector.modify(self._connection.socket, selectors.EVENT_READ | writing)

    def _hang_up(self, reason: str) -> None:
        if self._connection is not None:
            say("daemon_left", reason=reason)
            self._selector.unregister(self._connection.socket)
            self._connection.socket.close()
            self._connection = None
