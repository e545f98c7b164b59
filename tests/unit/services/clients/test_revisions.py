"""Pages of a job's revisions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcron.adapters.memory_objects import MemoryObjectStore
from dcron.domain.documents import revision_id
from dcron.domain.errors import NotFound, NotUnderstood
from dcron.domain.ids import new_ulid
from dcron.domain.queries import ExecutionQuery
from dcron.ports import JOBS, Document
from dcron.services.clients.executions import Executions
from dcron.services.clients.registrar import Registrar, Registration
from dcron.services.clients.revisions import Revisions
from tests.doubles import FakeNodes, ManualClock
from tests.unit.services.doubles import SPECIFICATION, START, FakeDirectory, SplitStore


@pytest.fixture
def history(store: SplitStore) -> Executions:
    return Executions(store, MemoryObjectStore(), FakeNodes(), ManualClock(START), FakeDirectory())


async def test_a_uid_that_no_job_has_or_had_is_not_found(store: SplitStore, history: Executions) -> None:
    unknown = new_ulid(START, b"u" * 10)
    with pytest.raises(NotFound, match=unknown):
        await history.list(ExecutionQuery(unknown))
    with pytest.raises(NotFound, match=unknown):
        await history.revisions(unknown, 0, "")


async def test_a_revision_that_is_not_there_is_told_by_the_jobs_name(
    history: Executions, registrar: Registrar
) -> None:
    await registrar.create(Registration("report", SPECIFICATION, paused=False))
    with pytest.raises(NotFound, match="revision 7 of job 'report' not found"):
        await history.revision("report", 7)


async def test_a_revision_that_is_not_understood_hides_no_others(
    store: SplitStore, registrar: Registrar
) -> None:
    job = await registrar.create(Registration("report", SPECIFICATION, paused=False))
    revisions = Revisions(store)
    await store.write(
        JOBS, [Document(revision_id(job.uid, 2), {"kind": "revision", "of": "a newer version"})]
    )
    await revisions.keep(replace(job, revision=3))
    found, _ = await revisions.page(job.uid, 0, "")
    assert [each.revision for each in found] == [3, 1]
    with pytest.raises(NotUnderstood, match="newer version"):
        await revisions.get(job.uid, 2, job.name)
