"""`dcron doctor`: puts together what looks at a node's set-up, on its own machine, beside `dcron.node`."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from dcron import __version__
from dcron.adapters.grpc.probe import ask_health
from dcron.adapters.host_probe import can_listen, find_programs, is_spool_in_use, limits, probe_spool
from dcron.adapters.keeper.probe import KeeperFacts, probe_keeper
from dcron.adapters.system_clock import SystemClock
from dcron.adapters.trust import trusting
from dcron.adapters.upload_probe import put_by_url
from dcron.certificates import is_of_ca, read_credentials
from dcron.config import Settings, load_settings
from dcron.domain.checkup import (
    Finding,
    Level,
    StoreFacts,
    judge_interpreters,
    judge_limits,
    judge_spool,
    judge_store,
)
from dcron.domain.checkup_certificate import CertificateFacts, judge_certificate
from dcron.domain.checkup_cluster import (
    ThisNode,
    judge_addresses,
    judge_format,
    judge_id,
    judge_leases,
    judge_versions,
    wanted_interpreters,
)
from dcron.domain.errors import DcronError, SetupError
from dcron.domain.script_environment import script_environment
from dcron.ports import Clock
from dcron.services.checkup import ClusterFacts, check_clock, check_objects, look_at_cluster
from dcron.services.worker.spool import read_spool_id
from dcron.stores import open_inspector, open_objects, open_store

__all__ = ["examine", "judge_keeper"]

USUAL_INTERPRETERS = ("sh", "bash", "python3")
WATCH_MARGIN_SECONDS = 0.5
MAX_WATCH_SECONDS = 5.0
"""Longest watch for a renewal of nodes; with longer leases some seem silent."""


async def examine(
    path: Path | None, environment: Mapping[str, str], clock: Clock | None = None
) -> list[Finding]:
    """All findings about the node of a settings file (None: of the environment alone), in a fixed order."""
    try:
        settings = load_settings(path, environment)
    except SetupError as error:
        remedy = "see docs/configuration.md; without --config, settings come from DCRON_* alone"
        return [Finding("settings", Level.FAILED, str(error), "" if path else remedy)]
    told = Finding("settings", Level.OK, f"{path or 'DCRON_* variables'}, node {settings.node_id}")
    clock = clock or SystemClock()
    machine, stores = await asyncio.gather(_machine(settings, clock), _stores(settings, clock))
    return [told, *machine, *stores]


async def _machine(settings: Settings, clock: Clock) -> list[Finding]:
    """Findings that need no store: the spool, the limits, the keeper."""
    spool = await asyncio.to_thread(probe_spool, settings.spool)
    findings = [*judge_spool(spool, settings.max_log_bytes), judge_limits(limits(), settings.slots)]
    findings += await asyncio.to_thread(_certificate, settings, clock)
    if spool.trouble:
        return findings
    near = settings.spool if spool.exists else next(p for p in settings.spool.parents if p.exists())
    return [*findings, judge_keeper(await probe_keeper(near, clock))]


def judge_keeper(facts: KeeperFacts) -> Finding:
    """Whether scripts can be run here, and stopped with all that they leave behind."""
    if facts.trouble:
        remedy = (
            "scripts are started by a keeper process, from the spool's disk; the message says what it lacks"
        )
        return Finding("keeper", Level.FAILED, facts.trouble, remedy)
    if not facts.has_control_groups:
        message = (
            "scripts run, but without control groups: what hides from its script may outlive a stop of it"
        )
        remedy = "run the node as root or, under systemd, with Delegate=yes, on a host with cgroup v2"
        return Finding("keeper", Level.WARNING, message, remedy)
    return Finding("keeper", Level.OK, "a keeper was started, ran a script and saw how it ended")


async def _stores(settings: Settings, clock: Clock) -> list[Finding]:
    """Findings about the stores, and the cluster in them."""
    try:
        inspector = open_inspector(settings.store, settings.store_ca)
    except SetupError as error:
        return [Finding("settings", Level.FAILED, str(error))]
    try:
        facts = await inspector.inspect()
    finally:
        await inspector.close()
    findings, cluster = await _cluster(settings, clock, facts)
    interpreters = await _interpreters(settings, cluster)
    objects = await _objects(settings, joined=cluster is not None and cluster.joined)
    return [*judge_store(facts), *findings, *interpreters, *objects]


async def _cluster(
    settings: Settings, clock: Clock, store_facts: StoreFacts
) -> tuple[list[Finding], ClusterFacts | None]:
    """The clock, and whether this node fits in with the others, as far as the store tells."""
    if all(host.trouble for host in store_facts.hosts):
        return [_not_looked_at("clock, nodes", "the document store does not let us in")], None
    store = open_store(settings.store, settings.store_ca)
    findings: list[Finding] = []
    try:
        findings.append(await check_clock(store, clock))
        if not store_facts.prepared:
            return [*findings, _not_looked_at("nodes", "the databases are not there yet")], None
        watch_seconds = min(settings.lease_seconds / 3 + WATCH_MARGIN_SECONDS, MAX_WATCH_SECONDS)
        facts = await look_at_cluster(store, _asking(settings), watch_seconds)
    except DcronError as error:
        remedy = "look at the findings about the document store"
        return [*findings, Finding("nodes", Level.FAILED, str(error), remedy)], None
    finally:
        await store.close()
    return [*findings, *await _fit(settings, facts)], facts


def _not_looked_at(what: str, why: str) -> Finding:
    return Finding(what, Level.WARNING, f"not looked at: {why}", "run doctor again once that is mended")


def _certificate(settings: Settings, clock: Clock) -> list[Finding]:
    """Whether the node's certificate can be used, where there is one."""
    if settings.tls is None:
        return []
    try:
        credentials = read_credentials(settings.tls)
    except SetupError as error:
        remedy = "see docs/security.md; dcron's user has to be able to read all three files"
        return [Finding("certificate", Level.FAILED, str(error), remedy)]
    identity = credentials.identity
    facts = CertificateFacts(
        identity.name,
        identity.units,
        identity.hosts,
        identity.not_before,
        identity.not_after,
        of_ca=is_of_ca(credentials),
        key_open_to_all=bool(settings.tls.key.stat().st_mode & stat.S_IROTH),
    )
    return judge_certificate(facts, settings.advertise, clock.now())


def _asking(settings: Settings) -> Callable[[str], Awaitable[str]]:
    """Way to ask nodes for their health: by this node's certificate, as far as that can be used."""
    credentials = None
    if settings.tls is not None:
        with suppress(SetupError):
            credentials = read_credentials(settings.tls)
    return partial(ask_health, credentials=credentials)


async def _fit(settings: Settings, facts: ClusterFacts) -> list[Finding]:
    in_use = await asyncio.to_thread(is_spool_in_use, settings.spool)
    this = ThisNode(
        settings.node_id,
        read_spool_id(settings.spool),
        settings.advertise,
        __version__,
        settings.lease_seconds,
        in_use,
    )
    if in_use:
        own_trouble = await _asking(settings)(settings.advertise)
    else:
        own_trouble = await asyncio.to_thread(can_listen, settings.listen)
    return [
        judge_format(facts.settings.format_version),
        judge_id(this, facts.peers),
        *judge_leases(this, facts.peers),
        *judge_versions(this, facts.peers),
        *judge_addresses(this, own_trouble, facts.peers),
    ]


async def _interpreters(settings: Settings, cluster: ClusterFacts | None) -> Iterable[Finding]:
    wanted = wanted_interpreters(cluster.asked, settings.labels) if cluster else {}
    names = dict.fromkeys([*USUAL_INTERPRETERS, *sorted(wanted)])
    search = script_environment(os.environ)["PATH"]
    found = await asyncio.to_thread(find_programs, names, search)
    return judge_interpreters(found, wanted)


async def _objects(settings: Settings, *, joined: bool) -> Sequence[Finding]:
    try:
        objects = open_objects(settings.objects, settings.objects_ca)
        trusted = trusting("objects_ca", settings.objects_ca) if settings.objects_ca else None
    except SetupError as error:
        return [Finding("settings", Level.FAILED, str(error))]
    try:
        return await check_objects(objects, partial(put_by_url, trusted=trusted), joined=joined)
    finally:
        await objects.close()
