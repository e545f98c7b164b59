"""Has every change recorded before it is made, and its result after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration

from dcron.api.access import caller_of
from dcron.api.errors import status_of
from dcron.api.handlers import Context, Interceptor
from dcron.domain.access import Caller
from dcron.domain.audit import DONE, Change
from dcron.domain.errors import DcronError
from dcron.rpc import dcron_pb2 as pb
from dcron.services.clients.registrar import MAX_REGISTRATIONS

__all__ = ["CHANGES", "AuditInterceptor", "Trail"]

_PUBLIC = "/dcron.v1.Public/"
_CLUSTER = "cluster"


class Trail(Protocol):
    """Where changes are recorded."""

    async def request(self, caller: Caller, changes: Sequence[Change]) -> list[str]:
        """Record what is asked for; the records' ids. An error means that it must not be made."""

    async def results(self, ids: Sequence[str], results: Sequence[str]) -> None:
        """Record what came of each."""


class AuditInterceptor(Interceptor):
    """Stands directly before the methods, behind what refuses callers: what is refused changes nothing."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Wrap a method that changes something."""
        describe = CHANGES.get(method)
        if describe is None:
            return handler  # type: ignore[no-any-return]  # as it came

        async def recorded(request: Any, context: Context) -> Any:
            ids = await self._trail.request(caller_of(context), describe(request))
            try:
                answer = await handler.unary_unary(request, context)
            except Exception as error:
                await self._trail.results(ids, [_status(error)] * len(ids))
                raise
            await self._trail.results(ids, _results(answer) or [DONE] * len(ids))
            return answer

        return grpc.unary_unary_rpc_method_handler(
            recorded, handler.request_deserializer, handler.response_serializer
        )


def _status(error: Exception) -> str:
    return status_of(error).name if isinstance(error, DcronError) else grpc.StatusCode.INTERNAL.name


def _results(answer: Any) -> list[str]:
    """What came of each change that one call asked for; empty where all of it was done or none."""
    if not isinstance(answer, pb.CreateJobsResponse):
        return []
    return [
        _STATUS_NAMES.get(each.refusal.code, str(each.refusal.code)) if each.HasField("refusal") else DONE
        for each in answer.results
    ]


_STATUS_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def _create_job(request: pb.CreateJobRequest) -> list[Change]:
    return [_new_job("CreateJob", request)]


def _create_jobs(request: pb.CreateJobsRequest) -> list[Change]:
    if len(request.jobs) > MAX_REGISTRATIONS:
        # It will be refused as a whole, and is not worth more than a line.
        return [Change("CreateJobs", f"{len(request.jobs)} jobs")]
    return [_new_job("CreateJobs", wanted) for wanted in request.jobs]


def _new_job(method: str, wanted: pb.CreateJobRequest) -> Change:
    content = _essentials(wanted.specification, _SPECIFICATION_FIELDS)
    return Change(method, wanted.name, {**content, "paused": str(wanted.paused).lower()})


def _update_job(request: pb.UpdateJobRequest) -> list[Change]:
    fields = list(request.update_mask.paths) or [
        field.name for field, _ in request.specification.ListFields()
    ]
    content = _essentials(request.specification, _SPECIFICATION_FIELDS if fields == ["*"] else fields)
    return [Change("UpdateJob", request.name, {"fields": ",".join(fields), **content})]


def _resolve_execution(request: pb.ResolveExecutionRequest) -> list[Change]:
    known = request.verdict in pb.Verdict.values()
    verdict = pb.Verdict.Name(request.verdict).removeprefix("VERDICT_").lower() if known else "?"
    content = {"verdict": verdict, "by": request.by, "reason": request.reason}
    return [Change("ResolveExecution", request.id, content)]


def _essentials(specification: pb.Specification, fields: Iterable[str]) -> dict[str, str]:
    """Fields of a specification as texts. Arguments and values of the environment may be secrets: of those
    only the number and the names are told."""
    told = {
        "arguments": str(len(specification.arguments)),
        "environment": ",".join(sorted(specification.environment)),
        "labels": ",".join(f"{name}={value}" for name, value in sorted(specification.labels.items())),
        "script": f"{specification.script.sha256} {specification.script.file_name}",
        "timeout": _seconds(specification.timeout),
        "grace": _seconds(specification.grace),
    }
    given = {field.name for field, _ in specification.ListFields()}
    return {
        name: told[name] if name in told else str(getattr(specification, name))
        for name in fields
        if name in given
    }


def _seconds(duration: Duration) -> str:
    return f"{duration.ToNanoseconds() / 1e9:g}s"


_SPECIFICATION_FIELDS = tuple(pb.Specification.DESCRIPTOR.fields_by_name)

_Describe = Callable[[Any], Sequence[Change]]

CHANGES: Mapping[str, _Describe] = {
    f"{_PUBLIC}CreateJob": _create_job,
    f"{_PUBLIC}CreateJobs": _create_jobs,
    f"{_PUBLIC}UpdateJob": _update_job,
    f"{_PUBLIC}DeleteJob": lambda request: [Change("DeleteJob", request.name)],
    f"{_PUBLIC}PauseJob": lambda request: [Change("PauseJob", request.name)],
    f"{_PUBLIC}ResumeJob": lambda request: [Change("ResumeJob", request.name)],
    f"{_PUBLIC}RunJob": lambda request: [Change("RunJob", request.name, {"request_id": request.request_id})],
    f"{_PUBLIC}CancelExecution": lambda request: [Change("CancelExecution", request.id)],
    f"{_PUBLIC}ResolveExecution": _resolve_execution,
    f"{_PUBLIC}DrainNode": lambda request: [Change("DrainNode", request.id)],
    f"{_PUBLIC}UndrainNode": lambda request: [Change("UndrainNode", request.id)],
    f"{_PUBLIC}ForgetNode": lambda request: [Change("ForgetNode", request.id)],
    f"{_PUBLIC}FreezeCluster": lambda _: [Change("FreezeCluster", _CLUSTER)],
    f"{_PUBLIC}ThawCluster": lambda _: [Change("ThawCluster", _CLUSTER)],
}
"""The methods that change something, and what is recorded of each. Uploads are not among them: a script
changes nothing until a job names its digest."""
