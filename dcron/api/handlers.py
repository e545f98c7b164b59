"""Methods of a gRPC server with something done around them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

__all__ = ["Answer", "Context", "Interceptor", "Stream", "guarded", "same_kind"]

# A method takes a message or a stream of them; what else there is to it, interceptors do not touch.
Context = aio.ServicerContext[Any, Any]
Answer = Callable[[Any, Context], Awaitable[Any]]
Stream = Callable[[Any, Context], AsyncIterator[Any]]


class Interceptor(aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Puts something around each method that there is."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """As gRPC calls it."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None  # type: ignore[return-value]  # there is no such method, which the stubs do not know
        return self.wrap(handler_call_details.method, handler)

    @abstractmethod
    def wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method with something around it, or as it is."""


def same_kind(handler: Any, answering: Answer, streaming: Stream) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of the same kind as another: `answering` where that gives one message, else `streaming`."""
    codec = (handler.request_deserializer, handler.response_serializer)
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(answering, *codec)
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(answering, *codec)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(streaming, *codec)
    return grpc.stream_stream_rpc_method_handler(streaming, *codec)


def guarded(handler: Any, guard: Callable[[Context], Awaitable[None]]) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that awaits `guard`, which may abort the call, before its method begins."""

    async def answering(request: Any, context: Context) -> Any:
        await guard(context)
        return await (handler.unary_unary or handler.stream_unary)(request, context)

    async def streaming(request: Any, context: Context) -> AsyncIterator[Any]:
        await guard(context)
        async for message in (handler.unary_stream or handler.stream_stream)(request, context):
            yield message

    return same_kind(handler, answering, streaming)
