"""Messages between daemon and keeper: JSON objects in frames, over `<spool>/keeper.sock`.

The keeper speaks first: `{"hello": {"version": …, "pid": …, "control_groups": …, "running": [token, …]}}`.
Then come requests, `{"id": n, "do": "start" | "cancel" | "list", …}`, each answered by `{"id": n, …}`, and
in between the keeper's events `{"event": "exited", "token": …}` and `{"event": "replaced"}`, after which
it hangs up because another daemon has connected. Fields that a reader does not know are ignored, so that
VERSION changes only when an old reader would do something wrong. A daemon that meets another VERSION (the
keeper of before an upgrade still has scripts) must refuse to work with it.
"""

from __future__ import annotations

import json
import struct

__all__ = [
    "JOURNAL_NAME",
    "LOCK_NAME",
    "MESSAGE_BYTES_MAX",
    "NO_ROOM_STATUS",
    "SOCKET_NAME",
    "VERSION",
    "Frames",
    "ProtocolError",
    "encode",
]

VERSION = 1
MESSAGE_BYTES_MAX = 16 << 20
SOCKET_NAME = "keeper.sock"
LOCK_NAME = "keeper.lock"
JOURNAL_NAME = "keeper.log"
NO_ROOM_STATUS = 3
"""Exit status of a keeper that could not start because the disk is full."""

_LENGTH = struct.Struct(">I")


class ProtocolError(ValueError):
    """The other side sent, or was to be sent, what is no message of this protocol."""


def encode(message: dict[str, object]) -> bytes:
    """One frame; raises ProtocolError where it would be longer than MESSAGE_BYTES_MAX."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MESSAGE_BYTES_MAX:
        raise ProtocolError(f"a message of {len(body)} bytes; {MESSAGE_BYTES_MAX} are allowed")
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Puts messages together again from the bytes of a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """The messages that `data` completes; raises ProtocolError, after which the stream is lost."""
        self._buffer += data
        messages: list[dict[str, object]] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MESSAGE_BYTES_MAX:
                raise ProtocolError(f"a message of {length} bytes; {MESSAGE_BYTES_MAX} are allowed")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(_parse(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return messages


def _parse(body: bytes) -> dict[str, object]:
    try:
        message = json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"no JSON: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("no JSON object")
    return message
