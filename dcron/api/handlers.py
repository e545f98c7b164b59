"""Methods of a gRPC server with something done before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

__all__ = ["Context", "guarded"]

# A method takes a message or a stream of them; what else there is to it, interceptors do not touch.
Context = aio.ServicerContext[Any, Any]


def guarded(handler: Any, guard: Callable[[Context], Awaitable[None]]) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that awaits `guard`, which may abort the call, before its method begins."""

    async def answering(request: Any, context: Context) -> Any:
        await guard(context)
        return await (handler.unary_unary or handler.stream_unary)(request, context)

    async def streaming(request: Any, context: Context) -> AsyncIterator[Any]:
        await guard(context)
        async for message in (handler.unary_stream or handler.stream_stream)(request, context):
            yield message

    codec = (handler.request_deserializer, handler.response_serializer)
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(answering, *codec)
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(answering, *codec)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(streaming, *codec)
    return grpc.stream_stream_rpc_method_handler(streaming, *codec)
