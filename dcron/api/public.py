"""Service for clients, which any node gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

from grpc import aio

from dcron.api.access import caller_of
from dcron.api.errors import status_of
from dcron.api.fitting import MAX_ANSWER_BYTES, fitting
from dcron.domain.errors import DcronError, InvalidInput, StoreUnreachable
from dcron.domain.model import Job
from dcron.domain.nodes import LeaderReport
from dcron.domain.pages import page_token
from dcron.domain.views import ClusterView
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc import dcron_pb2_grpc
from dcron.services.clients.audit import AuditTrail
from dcron.services.clients.catalogue import Catalogue
from dcron.services.clients.cluster import ClusterService
from dcron.services.clients.executions import Executions
from dcron.services.clients.registrar import Registrar, Registration
from dcron.services.clients.scripts import Scripts
from dcron.wire import (
    cluster_message,
    execution_message,
    job_message,
    listed_message,
    node_message,
    specification_asked,
    timestamp,
)
from dcron.wire_records import audit_message, revision_message
from dcron.wire_requests import (
    audit_query_from,
    execution_query_from,
    job_query_from,
    mask_from,
    patience_from,
    verdict_from,
)

__all__ = ["MAX_CHUNK_BYTES", "Public"]

MAX_CHUNK_BYTES = 1024 * 1024
"""Bytes of a script or log in one message."""

_Context = aio.ServicerContext[Any, Any]


class Public(dcron_pb2_grpc.PublicServicer):
    """The `Public` service: converts, and hands over to the services."""

    def __init__(
        self,
        catalogue: Catalogue,
        registrar: Registrar,
        scripts: Scripts,
        history: Executions,
        cluster: ClusterService,
        audit: AuditTrail,
    ) -> None:
        self._catalogue = catalogue
        self._registrar = registrar
        self._scripts = scripts
        self._history = history
        self._cluster = cluster
        self._audit = audit

    async def PrepareUpload(
        self, request: pb.PrepareUploadRequest, context: _Context
    ) -> pb.PrepareUploadResponse:
        """See proto/dcron.proto."""
        plan = await self._scripts.prepare_upload(request.sha256, request.size_bytes)
        if plan.target is None:
            return pb.PrepareUploadResponse(present=plan.present)
        return pb.PrepareUploadResponse(url=plan.target.url, headers=plan.target.headers)

    async def UploadScript(
        self, request_iterator: AsyncIterator[pb.UploadScriptRequest], context: _Context
    ) -> pb.UploadScriptResponse:
        """See proto/dcron.proto."""
        first = await anext(request_iterator, None)
        if first is None:
            raise InvalidInput("sha256", "no message came; send the digest in the first one")
        size_bytes = await self._scripts.upload(first.sha256, _data(first, request_iterator))
        return pb.UploadScriptResponse(size_bytes=size_bytes)

    async def GetScript(
        self, request: pb.GetScriptRequest, context: _Context
    ) -> AsyncIterator[pb.GetScriptResponse]:
        """See proto/dcron.proto."""
        async for chunk in self._scripts.read(request.sha256):
            for start in range(0, len(chunk), MAX_CHUNK_BYTES):
                yield pb.GetScriptResponse(data=chunk[start : start + MAX_CHUNK_BYTES])

    async def CreateJob(self, request: pb.CreateJobRequest, context: _Context) -> pb.Job:
        """See proto/dcron.proto."""
        return await self._job(await self._registrar.create(_registration(request)))

    async def CreateJobs(self, request: pb.CreateJobsRequest, context: _Context) -> pb.CreateJobsResponse:
        """See proto/dcron.proto."""
        answers = await self._registrar.create_all([_registration_or_refusal(each) for each in request.jobs])
        return pb.CreateJobsResponse(results=map(_create_result, answers))

    async def UpdateJob(self, request: pb.UpdateJobRequest, context: _Context) -> pb.Job:
        """See proto/dcron.proto."""
        job = await self._catalogue.update(
            request.name,
            specification_asked(request.specification),
            mask_from(request.update_mask, request.specification),
            if_revision=request.if_revision,
        )
        return await self._job(job)

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: _Context) -> pb.DeleteJobResponse:
        """See proto/dcron.proto."""
        return pb.DeleteJobResponse(running_execution_id=await self._catalogue.delete(request.name))

    async def GetJob(self, request: pb.GetJobRequest, context: _Context) -> pb.Job:
        """See proto/dcron.proto."""
        return await self._job(await self._catalogue.get(request.name))

    async def ListJobs(self, request: pb.ListJobsRequest, context: _Context) -> pb.ListJobsResponse:
        """See proto/dcron.proto."""
        answer = pb.ListJobsResponse()
        report = await self._cluster.report()
        size_bytes = 0
        query = job_query_from(request)
        async with aclosing(self._catalogue.parts(query, request.page_size, request.page_token)) as parts:
            async for part in parts:
                for job in part.jobs:
                    message = job_message(job, report)
                    size_bytes += message.ByteSize()
                    if answer.jobs and size_bytes > MAX_ANSWER_BYTES:
                        answer.next_page_token = page_token(query, (answer.jobs[-1].name,))
                        return answer
                    answer.jobs.append(message)
                answer.next_page_token = part.next_token
        return answer

    async def GetJobRevision(self, request: pb.GetJobRevisionRequest, context: _Context) -> pb.JobRevision:
        """See proto/dcron.proto."""
        return revision_message(await self._history.revision(request.job, request.revision))

    async def ListJobRevisions(
        self, request: pb.ListJobRevisionsRequest, context: _Context
    ) -> pb.ListJobRevisionsResponse:
        """See proto/dcron.proto."""

        async def ask(size: int) -> tuple[Iterable[pb.JobRevision], str]:
            found, next_token = await self._history.revisions(request.job, size, request.page_token)
            return map(revision_message, found), next_token

        revisions, next_token = await fitting(ask, request.page_size)
        return pb.ListJobRevisionsResponse(revisions=revisions, next_page_token=next_token)

    async def PauseJob(self, request: pb.PauseJobRequest, context: _Context) -> pb.Job:
        """See proto/dcron.proto."""
        return await self._job(await self._catalogue.pause(request.name))

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: _Context) -> pb.Job:
        """See proto/dcron.proto."""
        return await self._job(await self._catalogue.resume(request.name))

    async def RunJob(self, request: pb.RunJobRequest, context: _Context) -> pb.RunJobResponse:
        """See proto/dcron.proto."""
        execution_id = await self._catalogue.run(request.name, request.request_id)
        return pb.RunJobResponse(execution_id=execution_id)

    async def NextOccurrences(
        self, request: pb.NextOccurrencesRequest, context: _Context
    ) -> pb.NextOccurrencesResponse:
        """See proto/dcron.proto."""
        if request.name:
            instants, timezone = await self._catalogue.next_occurrences(request.name, request.count)
        else:
            timezone = request.timezone or "UTC"
            instants = self._catalogue.preview(request.schedule, timezone, request.count)
        return pb.NextOccurrencesResponse(
            occurrences=[timestamp(instant) for instant in instants], timezone=timezone
        )

    async def ListExecutions(
        self, request: pb.ListExecutionsRequest, context: _Context
    ) -> pb.ListExecutionsResponse:
        """See proto/dcron.proto."""
        query = execution_query_from(request)

        async def ask(size: int) -> tuple[Iterable[pb.Execution], str]:
            page = await self._history.list(query, size, request.page_token)
            return map(listed_message, page.executions), page.next_token

        executions, next_token = await fitting(ask, request.page_size)
        return pb.ListExecutionsResponse(executions=executions, next_page_token=next_token)

    async def GetExecution(self, request: pb.GetExecutionRequest, context: _Context) -> pb.Execution:
        """See proto/dcron.proto."""
        return listed_message(await self._history.get_listed(request.id))

    async def WaitExecution(self, request: pb.WaitExecutionRequest, context: _Context) -> pb.Execution:
        """See proto/dcron.proto."""
        return execution_message(await self._history.wait(request.id, patience_from(request)))

    async def ReadLog(
        self, request: pb.ReadLogRequest, context: _Context
    ) -> AsyncIterator[pb.ReadLogResponse]:
        """See proto/dcron.proto."""
        async for chunk in self._history.read_log(request.id, follow=request.follow):
            yield pb.ReadLogResponse(data=chunk)

    async def CancelExecution(
        self, request: pb.CancelExecutionRequest, context: _Context
    ) -> pb.CancelExecutionResponse:
        """See proto/dcron.proto."""
        return pb.CancelExecutionResponse(node_id=await self._history.cancel(request.id))

    async def ResolveExecution(self, request: pb.ResolveExecutionRequest, context: _Context) -> pb.Execution:
        """See proto/dcron.proto."""
        kind = verdict_from(request.verdict)
        caller = caller_of(context)
        # A certificate says more than a client's own word.
        by = caller.name if caller.roles else request.by
        return execution_message(await self._history.resolve(request.id, kind, by, request.reason))

    async def ListNodes(self, request: pb.ListNodesRequest, context: _Context) -> pb.ListNodesResponse:
        """See proto/dcron.proto."""

        async def ask(size: int) -> tuple[Iterable[pb.Node], str]:
            nodes, next_token = await self._cluster.nodes(size, request.page_token)
            return map(node_message, nodes), next_token

        nodes, next_token = await fitting(ask, request.page_size)
        return pb.ListNodesResponse(nodes=nodes, next_page_token=next_token)

    async def DrainNode(self, request: pb.DrainNodeRequest, context: _Context) -> pb.Node:
        """See proto/dcron.proto."""
        return node_message(await self._cluster.drain(request.id))

    async def UndrainNode(self, request: pb.UndrainNodeRequest, context: _Context) -> pb.Node:
        """See proto/dcron.proto."""
        return node_message(await self._cluster.undrain(request.id))

    async def ForgetNode(self, request: pb.ForgetNodeRequest, context: _Context) -> pb.ForgetNodeResponse:
        """See proto/dcron.proto."""
        await self._cluster.forget(request.id)
        return pb.ForgetNodeResponse()

    async def GetClusterStatus(
        self, request: pb.GetClusterStatusRequest, context: _Context
    ) -> pb.ClusterStatus:
        """See proto/dcron.proto."""
        try:
            return await self._status(await self._cluster.status())
        except StoreUnreachable as error:
            view = self._cluster.status_of_this_node(str(error))
            return cluster_message(view, (), self._cluster.concerns(view))

    async def FreezeCluster(self, request: pb.FreezeClusterRequest, context: _Context) -> pb.ClusterStatus:
        """See proto/dcron.proto."""
        return await self._status(await self._cluster.freeze())

    async def ThawCluster(self, request: pb.ThawClusterRequest, context: _Context) -> pb.ClusterStatus:
        """See proto/dcron.proto."""
        return await self._status(await self._cluster.thaw())

    async def ListAudit(self, request: pb.ListAuditRequest, context: _Context) -> pb.ListAuditResponse:
        """See proto/dcron.proto."""
        query = audit_query_from(request)

        async def ask(size: int) -> tuple[Iterable[pb.AuditRecord], str]:
            page = await self._audit.list(query, size, request.page_token)
            return map(audit_message, page.records), page.next_token

        records, next_token = await fitting(ask, request.page_size)
        return pb.ListAuditResponse(records=records, next_page_token=next_token)

    async def _job(self, job: Job) -> pb.Job:
        return job_message(job, await self._cluster.report())

    async def _status(self, view: ClusterView) -> pb.ClusterStatus:
        needs_attention = await self._history.get_all(view.report.attention)
        return cluster_message(view, needs_attention, self._cluster.concerns(view))


def _registration(request: pb.CreateJobRequest) -> Registration:
    return Registration(request.name, specification_asked(request.specification), request.paused)


def _registration_or_refusal(request: pb.CreateJobRequest) -> Registration | InvalidInput:
    try:
        return _registration(request)
    except InvalidInput as refusal:
        return refusal


def _create_result(answer: Job | DcronError) -> pb.CreateJobResult:
    if isinstance(answer, DcronError):
        field = answer.field if isinstance(answer, InvalidInput) else ""
        refusal = pb.Refusal(code=status_of(answer).value[0], message=str(answer), field=field)
        return pb.CreateJobResult(refusal=refusal)
    message = job_message(answer, LeaderReport())
    message.ClearField("specification")
    return pb.CreateJobResult(job=message)


async def _data(
    first: pb.UploadScriptRequest, others: AsyncIterator[pb.UploadScriptRequest]
) -> AsyncIterator[bytes]:
    """The bytes of an upload, message by message."""
    message: pb.UploadScriptRequest | None = first
    while message is not None:
        if len(message.data) > MAX_CHUNK_BYTES:
            raise InvalidInput(
                "data", f"a message has {len(message.data)} bytes; send {MAX_CHUNK_BYTES} at most"
            )
        if message.data:
            yield message.data
        message = await anext(others, None)
