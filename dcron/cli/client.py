"""Asks the nodes: one connection at a time, and the next server when one is down.

What is only read is asked for again elsewhere. A change is sent once: when its answer is lost, nobody
but the store knows whether it took effect, and the user is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dcron.cli.failures import CommandFailed, ExitCode, NotFoundFailure, UnreachableFailure
from dcron.cli.subjects import SCRIPT, Subject, execution_named
from dcron.cli.targets import Target, chosen_target
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc.dcron_pb2_grpc import PublicStub

if TYPE_CHECKING:
    from dcron.cli.tls import ClientTls

__all__ = ["CALL_SECONDS", "CONNECT_SECONDS", "UPLOAD_SECONDS", "Client", "connect"]

CONNECT_SECONDS = 2.0
"""Time in which a server has to show that it is there, before the next one is tried."""
CALL_SECONDS = 30.0
"""Time in which a node has to answer; its own limits for its stores are shorter."""
UPLOAD_SECONDS = 600.0
"""Time that a script may take on its way through a node."""
MAX_REASON_CHARACTERS = 160
_CHANNEL_OPTIONS = (
    # Nodes are reached directly; a proxy meant for the web would only be in the way.
    ("grpc.enable_http_proxy", 0),
    # Else a new channel would sit out the back-off of an earlier one to the same address.
    ("grpc.use_local_subchannel_pool", 1),
    # A machine that vanished while we follow its log never closes the connection.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
_ABSENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
"""Statuses after which another node may do better."""
_UNSURE = _ABSENT | {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED}
"""Statuses after which a change may or may not have been made."""

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


def connect() -> Client:
    """A client of the servers that the command line or the context names."""
    target = chosen_target()
    return Client(target.servers, _tls_of(target))


def _tls_of(target: Target) -> ClientTls | None:
    if target.ca is None:
        return None
    from dcron.cli.tls import client_tls

    return client_tls(target)


class Client:
    """A connection to one of several equal servers, kept until that one fails. Use it in a `with`."""

    def __init__(self, servers: Sequence[str], tls: ClientTls | None = None) -> None:
        """`servers` are `host:port`; nothing is connected yet."""
        self._servers = tuple(servers)
        self.tls = tls
        self._position = 0
        self._channel: grpc.Channel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._disconnect()

    def read(
        self,
        method: Callable[[PublicStub], grpc.UnaryUnaryMultiCallable[_Request, _Answer]],
        request: _Request,
        subject: Subject,
    ) -> _Answer:
        """Ask what may be asked any number of times, of the first server that answers."""
        return next(self.read_each(method, request, subject))

    def read_each(
        self,
        method: Callable[[PublicStub], grpc.UnaryUnaryMultiCallable[_Request, _Answer]],
        request: _Request,
        subject: Subject,
    ) -> Iterator[_Answer]:
        """The answers of one server after the other: for who is not content with the first."""
        return self._answers(lambda public: method(public)(request, timeout=CALL_SECONDS), subject)

    def write(
        self,
        method: Callable[[PublicStub], grpc.UnaryUnaryMultiCallable[_Request, _Answer]],
        request: _Request,
        subject: Subject,
    ) -> _Answer:
        """Ask for a change, of the first server that can be reached, and of that one only."""
        trouble: list[str] = []
        for server in self._servers_in_turn():
            public = self._reach(server, trouble)
            if public is None:
                continue
            try:
                return method(public)(request, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                if error.code() in _UNSURE:
                    raise _outcome_unknown(server, error, subject) from None
                raise _refusal(error, subject) from None
        raise _nobody(trouble, connected=False)

    def upload(self, messages: Callable[[], Iterable[pb.UploadScriptRequest]]) -> None:
        """Send a script through a node; `messages` gives it from its beginning each time it is called.

        A script is stored under its digest, so sending it twice does no harm."""
        next(
            self._answers(
                lambda public: public.UploadScript(iter(messages()), timeout=UPLOAD_SECONDS), SCRIPT
            )
        )

    def read_script(self, sha256: str) -> bytes:
        """The content of a script, which no node lets grow beyond some MiB."""
        request = pb.GetScriptRequest(sha256=sha256)

        def ask(public: PublicStub) -> bytes:
            return b"".join(chunk.data for chunk in public.GetScript(request, timeout=UPLOAD_SECONDS))

        return next(self._answers(ask, SCRIPT))

    def read_log(self, execution_id: str, *, follow: bool) -> Iterator[bytes]:
        """The log's bytes in chunks; when a node fails in between, the next one goes on at that byte."""
        request = pb.ReadLogRequest(id=execution_id, follow=follow)
        subject = execution_named(execution_id)
        given_bytes = 0
        connected = False
        trouble: list[str] = []
        fruitless = 0
        while fruitless < len(self._servers):
            server = self._servers[self._position]
            fruitless += 1
            public = self._reach(server, trouble)
            if public is None:
                self._turn()
                continue
            connected = True
            try:
                for data in _beyond(given_bytes, public.ReadLog(request)):
                    given_bytes += len(data)
                    fruitless = 0
                    yield data
            except grpc.RpcError as error:
                if error.code() not in _ABSENT:
                    raise _refusal(error, subject) from None
                trouble.append(f"{server}: {_reason(error)}")
                self._turn()
            else:
                return
        raise _nobody(trouble, connected=connected)

    def _answers(self, ask: Callable[[PublicStub], _Answer], subject: Subject) -> Iterator[_Answer]:
        """One or more answers; raises UnreachableFailure instead of the first when there is none."""
        trouble: list[str] = []
        connected = answered = False
        for server in self._servers_in_turn():
            public = self._reach(server, trouble)
            if public is None:
                continue
            connected = True
            try:
                answer = ask(public)
            except grpc.RpcError as error:
                if error.code() not in _ABSENT:
                    raise _refusal(error, subject) from None
                trouble.append(f"{server}: {_reason(error)}")
                continue
            answered = True
            yield answer
        if not answered:
            raise _nobody(trouble, connected=connected)

    def _servers_in_turn(self) -> Iterator[str]:
        """Each server once, the one that answered last first; asking for the next one leaves it."""
        for _ in self._servers:
            yield self._servers[self._position]
            self._turn()

    def _turn(self) -> None:
        self._disconnect()
        self._position = (self._position + 1) % len(self._servers)

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _reach(self, server: str, trouble: list[str]) -> PublicStub | None:
        """The server's methods once it has answered at all; None, and a line in `trouble`, if it does not.

        The health check stands for "the connection works": what it says of the node's health does not
        matter, for a node that waits for its stores can still tell us so."""
        if self._channel is None:
            self._channel = _open_channel(server, self.tls)
        try:
            health_pb2_grpc.HealthStub(self._channel).Check(
                health_pb2.HealthCheckRequest(), timeout=CONNECT_SECONDS
            )
        except grpc.RpcError as error:
            if error.code() in _ABSENT:
                trouble.append(f"{server}: {_reason_of_absence(server, self.tls, error)}")
                return None
        return PublicStub(self._channel)


def _open_channel(server: str, tls: ClientTls | None) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(server, options=_CHANNEL_OPTIONS)
    own = tls.credentials
    credentials = grpc.ssl_channel_credentials(own.ca, own.key, own.certificate)
    return grpc.secure_channel(server, credentials, options=_CHANNEL_OPTIONS)


def _reason_of_absence(server: str, tls: ClientTls | None, error: grpc.RpcError) -> str:
    reason = _reason(error)
    # What has a reason of ours is no matter of TLS; whoever is silent would be so again.
    if reason in _PLAIN_REASONS:
        return reason
    from dcron.cli.tls import tls_trouble

    return tls_trouble(server, tls) or reason


def _beyond(offset: int, chunks: Iterable[pb.ReadLogResponse]) -> Iterator[bytes]:
    """The bytes of a stream from an offset on."""
    skip = offset
    for chunk in chunks:
        data = chunk.data[skip:]
        skip -= min(skip, len(chunk.data))
        if data:
            yield data


REFUSED, UNKNOWN_HOST, SILENT = "connection refused", "unknown host", "no answer in time"
_PLAIN_REASONS = frozenset({REFUSED, UNKNOWN_HOST, SILENT})


def _reason(error: grpc.RpcError) -> str:
    """Reason why a call failed, without gRPC's own words where ours are shorter."""
    details = error.details() or error.code().name
    # What the node itself has to say is passed on as it is.
    if details.startswith("failed to connect") and "Connection refused" in details:
        return REFUSED
    if details.startswith("DNS resolution failed"):
        return UNKNOWN_HOST
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return SILENT
    return details[:MAX_REASON_CHARACTERS]


_START_ONE = "; start one, or name one that runs with --server or DCRON_SERVER"


def _is_away(trouble: str) -> bool:
    """Whether a line about a server is about no node being there, and has no remedy of its own."""
    return trouble.endswith(tuple(_PLAIN_REASONS))


def _nobody(trouble: Sequence[str], *, connected: bool) -> UnreachableFailure:
    reasons = "; ".join(trouble)
    if connected:
        return UnreachableFailure(
            f"no node could answer ({reasons}); 'dcron cluster status' tells what nodes know by themselves",
            connected=True,
        )
    return UnreachableFailure(
        f"no node reachable ({reasons})" + (_START_ONE if all(map(_is_away, trouble)) else ""),
        connected=False,
    )


def _outcome_unknown(server: str, error: grpc.RpcError, subject: Subject) -> CommandFailed:
    return CommandFailed(
        f"{server} gave no clear answer ({_reason(error)}): the change may or may not have been made; "
        f"check with '{subject.check}' before trying again"
    )


def _refusal(error: grpc.RpcError, subject: Subject) -> CommandFailed:
    """Refusal of a node, as a line for people."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return CommandFailed(details, ExitCode.USAGE)
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFoundFailure(f"{details or subject.missing}; see '{subject.listing}'")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return CommandFailed(
            f"this server does not know the request ({details}); is it a dcron node of this version?"
        )
    return CommandFailed(details or f"the node answered {code.name} without saying more")
