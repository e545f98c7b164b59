"""Tells the gate what a call by gRPC is to change, in words, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from dcron.api.access import METHODS, caller_of
from dcron.api.handlers import Context, Interceptor
from dcron.domain.audit import DONE, Change
from dcron.rpc import dcron_pb2 as pb
from dcron.services.clients.gate import RULES, Gate
from dcron.services.clients.registrar import MAX_REGISTRATIONS

__all__ = ["CHANGES", "AuditInterceptor"]

_CLUSTER = "cluster"


class AuditInterceptor(Interceptor):
    """Stands directly before the methods, behind what refuses callers: what is refused changes nothing."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Wrap a method that changes something."""
        name = METHODS.get(method)
        if name is None or not RULES[name].recorded:
            return handler  # type: ignore[no-any-return]  # as it came
        describe = CHANGES[name]

        async def recorded(request: Any, context: Context) -> Any:
            return await self._gate.recorded(
                caller_of(context),
                describe(request),
                lambda: handler.unary_unary(request, context),
                _results if name == "CreateJobs" else None,
            )

        return grpc.unary_unary_rpc_method_handler(
            recorded, handler.request_deserializer, handler.response_serializer
        )


def _results(answer: pb.CreateJobsResponse) -> list[str]:
    """What came of each job of one call."""
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
    "CreateJob": _create_job,
    "CreateJobs": _create_jobs,
    "UpdateJob": _update_job,
    "DeleteJob": lambda request: [Change("DeleteJob", request.name)],
    "PauseJob": lambda request: [Change("PauseJob", request.name)],
    "ResumeJob": lambda request: [Change("ResumeJob", request.name)],
    "RunJob": lambda request: [Change("RunJob", request.name, {"request_id": request.request_id})],
    "CancelExecution": lambda request: [Change("CancelExecution", request.id)],
    "ResolveExecution": _resolve_execution,
    "DrainNode": lambda request: [Change("DrainNode", request.id)],
    "UndrainNode": lambda request: [Change("UndrainNode", request.id)],
    "ForgetNode": lambda request: [Change("ForgetNode", request.id)],
    "FreezeCluster": lambda _: [Change("FreezeCluster", _CLUSTER)],
    "ThawCluster": lambda _: [Change("ThawCluster", _CLUSTER)],
}
"""What is recorded of each method that the gate wants to have recorded."""
