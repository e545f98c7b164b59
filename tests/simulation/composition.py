"""Puts the simulated adapters where `dcron.node` makes the real ones, for the length of one run."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest.mock import patch

import structlog

import dcron.node
import dcron.services.clients.registrar
import dcron.services.shared.shared_documents
from dcron.ports import Clock, DocumentStore, NodeClient, ObjectStore, ProcessRunner
from tests.simulation.history import Defect, History
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import MACHINE, Machine, SimulatedServer, SimulatedSpool
from tests.simulation.told import told

__all__ = ["Adapters", "composed", "quiet_logs"]

NOT_UNDERSTOOD = "job document is not understood"
"""What a leader says of a document that it leaves alone, for want of knowing what to do with it."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """How each port is made for a machine."""

    store: Callable[[Machine], DocumentStore]
    objects: Callable[[Machine], ObjectStore]
    nodes: Callable[[Machine], NodeClient]
    runner: Callable[[Machine], ProcessRunner]


@contextmanager
def composed(adapters: Adapters, random: Random) -> Iterator[None]:
    """Within this, a `dcron.node.Node` runs in the simulation, and all its randomness is `random`'s."""

    def clock() -> Clock:
        return MACHINE.get().clock

    with (
        patch.object(dcron.node, "open_store", lambda *_: adapters.store(MACHINE.get())),
        patch.object(dcron.node, "open_objects", lambda *_: adapters.objects(MACHINE.get())),
        patch.object(dcron.node, "GrpcNodeClient", lambda _: adapters.nodes(MACHINE.get())),
        patch.object(dcron.node, "KeeperRunner", lambda *_: adapters.runner(MACHINE.get())),
        patch.object(dcron.node, "SystemClock", clock),
        patch.object(dcron.node, "ApiServer", SimulatedServer),
        patch.object(dcron.node, "Spool", SimulatedSpool),
        patch.object(secrets, "token_hex", lambda count: random.randbytes(count).hex()),
        patch.object(dcron.services.clients.registrar, "token_bytes", random.randbytes),
        patch.object(dcron.services.shared.shared_documents, "random", random),
    ):
        yield


@contextmanager
def quiet_logs(loop: VirtualLoop, history: History, *, verbose: bool) -> Iterator[None]:
    """Send the nodes' logs nowhere, or to stdout with virtual times; logged exceptions are defects."""

    def note(_: Any, method: str, line: MutableMapping[str, Any]) -> str:
        machine = MACHINE.get(None)
        node_id = machine.node_id if machine else "-"
        error = sys.exc_info()[1]
        if line.pop("exc_info", None) and error is not None:
            line["error"] = told(error)
            history.add(Defect(loop.time(), node_id, f"{line['event']}: {line['error']}"))
        if line["event"] == NOT_UNDERSTOOD:
            history.add(Defect(loop.time(), node_id, f"{line['event']}: {line['error']}"))
        if not verbose:
            raise structlog.DropEvent
        fields = " ".join(f"{name}={value}" for name, value in line.items() if name != "event")
        return f"{loop.time():10.3f} {node_id:6} {method:8} {line['event']} {fields}"

    before = structlog.get_config()
    level = 10 if verbose else 40
    structlog.configure(
        processors=[note],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
