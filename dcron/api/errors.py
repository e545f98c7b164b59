"""Errors of dcron as gRPC status, for every method of its services in one place."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
import structlog
from grpc import aio

from dcron.api.handlers import Answer, Context, Interceptor, Stream, same_kind
from dcron.domain.errors import DcronError, InvalidInput

__all__ = ["FIELD_METADATA", "ErrorInterceptor", "status_of"]

FIELD_METADATA = "dcron-field"
"""Trailing metadata that names the field at fault, with INVALID_ARGUMENT."""
MAX_DETAILS_CHARACTERS = 1_000
"""Details travel in a header, for which clients have little room."""
SERVICES_PREFIX = "/dcron.v1."

_OPERATORS_MATTER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)

log = structlog.get_logger()


def status_of(error: DcronError) -> grpc.StatusCode:
    """The gRPC status that says what an error says."""
    return grpc.StatusCode[error.code]


class ErrorInterceptor(Interceptor):
    """Ends a call with the status of the error that its method raised.

    What is not an error of dcron becomes INTERNAL with an id, under which the log has the traceback."""

    def wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Wrap the method of a dcron service; health and reflection speak for themselves."""
        if not method.startswith(SERVICES_PREFIX):
            return handler  # type: ignore[no-any-return]  # as it came
        return same_kind(
            handler,
            _answering(method, handler.unary_unary or handler.stream_unary),
            _streaming(method, handler.unary_stream or handler.stream_stream),
        )


def _answering(method: str, behaviour: Answer) -> Answer:
    async def wrapped(request: Any, context: Context) -> Any:
        try:
            return await behaviour(request, context)
        except aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - every error is answered
            await _abort(context, method, error)

    return wrapped


def _streaming(method: str, behaviour: Stream) -> Stream:
    async def wrapped(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for message in behaviour(request, context):
                yield message
        except aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - every error is answered
            await _abort(context, method, error)

    return wrapped


async def _abort(context: Context, method: str, error: Exception) -> NoReturn:
    if not isinstance(error, DcronError):
        error_id = secrets.token_hex(8)
        log.error("call failed", action="call", method=method, error_id=error_id, exc_info=error)
        await context.abort(
            grpc.StatusCode.INTERNAL, f"internal error {error_id}; this node's log has it under that id"
        )
    code = status_of(error)
    if code in _OPERATORS_MATTER:
        log.warning("call refused", action="call", method=method, status=code.name, error=str(error))
    metadata = ((FIELD_METADATA, error.field),) if isinstance(error, InvalidInput) else ()
    await context.abort(code, str(error)[:MAX_DETAILS_CHARACTERS], metadata)
