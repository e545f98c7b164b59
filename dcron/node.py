"""One node: the only place that knows every part and puts them together."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import secrets
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from dcron import __version__
from dcron.adapters.grpc.nodes import OFFER_SECONDS, SILENT_CONNECTION_SECONDS, GrpcNodeClient
from dcron.adapters.keeper.runner import KeeperRunner
from dcron.adapters.system_clock import SystemClock
from dcron.api.internal import Internal
from dcron.api.public import Public
from dcron.api.server import ApiServer
from dcron.config import Settings
from dcron.credentials import CertificateFiles
from dcron.domain.errors import SetupError
from dcron.domain.leadership import Lease
from dcron.domain.nodes import NodeRecord
from dcron.domain.planning import AHEAD_SECONDS
from dcron.domain.script_environment import script_environment
from dcron.logs import set_up_logging
from dcron.services.clients.answering import trusted_now
from dcron.services.clients.audit import AuditTrail
from dcron.services.clients.catalogue import Catalogue
from dcron.services.clients.cluster import ClusterService
from dcron.services.clients.executions import Executions
from dcron.services.clients.gate import Gate
from dcron.services.clients.registrar import Registrar
from dcron.services.clients.scripts import Scripts
from dcron.services.election.elector import Elector
from dcron.services.election.node_document import Workload
from dcron.services.leader.dispatcher import CLAIM_SETTLE_SECONDS
from dcron.services.leader.mandate import Leadership
from dcron.services.leader.scheduler import Scheduler
from dcron.services.shared.loops import until_reachable
from dcron.services.shared.node_state import LocalState
from dcron.services.shared.node_watch import NodeWatch
from dcron.services.shared.starts_first import StartsFirst
from dcron.services.shared.trouble import Trouble
from dcron.services.worker.claim_confirmer import ClaimConfirmer
from dcron.services.worker.executor import CLAIM_TO_START_SECONDS, Executor
from dcron.services.worker.outbox import Outbox
from dcron.services.worker.script_cache import ScriptCache
from dcron.services.worker.spool import Spool
from dcron.services.worker.worker import (
    OFFER_AGE_SECONDS,
    SCRIPT_PATIENCE_SECONDS,
    START_PATIENCE_SECONDS,
    Worker,
)
from dcron.stores import open_objects, open_store

if TYPE_CHECKING:
    from dcron.certificates import CredentialWatch

__all__ = ["Node", "serve_main"]

STOP_GRACE_SECONDS = AHEAD_SECONDS + 1.0
"""Time for which clients' calls may go on when the node stops: some are answered that much later."""
GARBAGE_OBJECTS = 10_000
"""New objects before Python looks for cycles among them; its own 700 are a few executions."""

assert SCRIPT_PATIENCE_SECONDS + START_PATIENCE_SECONDS < OFFER_SECONDS <= OFFER_AGE_SECONDS, (
    "a worker answers while the leader waits, and calls no offer old for which the leader waits"
)
assert CLAIM_SETTLE_SECONDS > SILENT_CONNECTION_SECONDS - OFFER_SECONDS + OFFER_AGE_SECONDS, (
    "what is sent on a silent connection is too old for a claim before the leader counts on that"
)
assert CLAIM_TO_START_SECONDS > AHEAD_SECONDS, "what is claimed ahead of its instant starts at it"

log = structlog.get_logger()


async def serve_main(settings: Settings) -> int:
    """Run one node until SIGTERM or SIGINT; the process's exit code. SetupError when it cannot work."""
    set_up_logging(settings.log_format, settings.log_level, settings.node_id)
    if settings.open_to_others and not settings.tls:
        log.warning(
            "serving without TLS beyond this machine: whoever reaches this address can run scripts here",
            action="insecure",
            address=settings.listen,
        )
    node = Node(settings)
    _look_for_garbage_less_often()
    run = asyncio.create_task(node.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, run.cancel)
    await asyncio.wait([run])
    if not run.cancelled() and (error := run.exception()) is not None:
        raise _setup_error_in(error) or error
    log.info("stopped", action="stop")
    return 0


def _look_for_garbage_less_often() -> None:
    """Keep Python's search for cycles off what is loaded by now: it stays, and most of what comes is gone
    before it could be part of a cycle. Looking at all of it again and again took a tenth of a leader's
    processor time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)


def _setup_error_in(error: BaseException) -> SetupError | None:
    """The reason for a person, when a task group has wrapped it."""
    if isinstance(error, SetupError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_setup_error_in, error.exceptions)), None)
    return None


class Node:
    """All services of one node, wired together."""

    def __init__(self, settings: Settings) -> None:
        clock = SystemClock()
        lease = Lease(settings.lease_seconds)
        self._settings = settings
        self._store = open_store(settings.store, settings.store_ca)
        self._objects = open_objects(settings.objects, settings.objects_ca)
        self._credentials = _watch(settings.tls) if settings.tls else None
        self._nodes = GrpcNodeClient(self._credentials)
        self._spool = Spool(settings.spool)
        self._runner = KeeperRunner(settings.spool, clock)
        self._local = LocalState()
        self._unsure_sequences: dict[str, int] = {}
        self._offer_numbers = itertools.count(1)
        self._burst = StartsFirst()
        self._outbox = Outbox(self._store, self._objects, self._spool, self._burst)
        self._executor = Executor(
            settings.node_id,
            self._spool,
            self._runner,
            self._outbox,
            ClaimConfirmer(self._store),
            clock,
            self._burst,
            environment=script_environment(os.environ),
            max_log_bytes=settings.max_log_bytes,
        )
        self._worker = Worker(
            settings.node_id,
            settings.slots,
            self._store,
            self._spool,
            ScriptCache(self._spool.scripts, self._objects),
            self._executor,
            self._local,
            clock,
            self._burst,
        )
        self._clock = clock
        self._lease = lease

    async def run(self) -> None:
        """Serve until cancelled, then leave cleanly."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._nodes.close)
            stack.push_async_callback(self._objects.close)
            stack.push_async_callback(self._store.close)
            self._spool.open()
            stack.callback(self._spool.close)
            elector = self._make_elector()
            server = self._make_server(elector)
            await server.start()
            stack.push_async_callback(server.stop, STOP_GRACE_SECONDS)
            await self._runner.open()
            stack.push_async_callback(self._runner.close)
            stack.push_async_callback(self._worker.finish)
            await until_reachable(self._store.prepare, elector.store_trouble)
            await until_reachable(self._objects.prepare, _objects_trouble())
            await until_reachable(elector.join, elector.store_trouble)
            await self._work(elector, server)

    async def _work(self, elector: Elector, server: ApiServer) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outbox.run())
            group.create_task(self._executor.run())
            group.create_task(elector.run())
            await self._executor.recover()
            self._worker.ready = True
            await server.set_serving(True)
            log.info("serving", action="serve", address=self._settings.advertise, version=__version__)

    def _make_elector(self) -> Elector:
        settings = self._settings
        now = self._clock.now()
        record = NodeRecord(
            node_id=settings.node_id,
            incarnation=secrets.token_hex(8),
            spool_id=self._spool.id,
            address=settings.advertise,
            version=__version__,
            slots=settings.slots,
            started_at=now,
            renewed_at=now,
            labels=settings.labels,
            lease_seconds=settings.lease_seconds,
        )
        return Elector(
            self._store,
            self._nodes,
            self._clock,
            self._lease,
            record,
            self._local,
            self._workload,
            self._make_scheduler,
        )

    def _make_scheduler(self, leadership: Leadership) -> Scheduler:
        watch = NodeWatch(
            self._store, self._clock, lease_seconds=self._lease.length_seconds, silent=leadership.silent
        )
        return Scheduler(
            self._store,
            self._nodes,
            self._clock,
            watch,
            leadership,
            self._burst,
            unsure_sequences=self._unsure_sequences,
            offer_numbers=self._offer_numbers,
            renewal_seconds=self._lease.renewal_seconds,
        )

    def _make_server(self, elector: Elector) -> ApiServer:
        settings = self._settings
        scripts = Scripts(self._objects, max_script_bytes=settings.max_script_bytes)
        catalogue = Catalogue(self._store, scripts, self._clock, clock_trouble=elector.clock_trouble)
        registrar = Registrar(self._store, scripts, lambda: trusted_now(self._clock, elector.clock_trouble()))
        cluster = ClusterService(self._store, self._clock, elector, self._executor.held, lease=self._lease)
        history = Executions(self._store, self._objects, self._nodes, self._clock, cluster)
        audit = AuditTrail(self._store, self._clock, settings.node_id)
        public = Public(catalogue, registrar, scripts, history, cluster, audit)
        internal = Internal(self._worker, elector)
        return ApiServer(settings.listen, public, internal, Gate(audit), self._credentials)

    def _workload(self) -> Workload:
        outbox = self._outbox
        return Workload(len(self._executor), len(outbox), outbox.warnings(), outbox.oldest_at())


def _watch(files: CertificateFiles) -> CredentialWatch:
    from dcron.certificates import CredentialWatch

    return CredentialWatch(files)


def _objects_trouble() -> Trouble:
    return Trouble("start", "waiting for the object store", "reaches the object store")
