"""Pages of a job's revisions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcron.domain.documents import revision_id
from dcron.domain.errors import NotUnderstood
from dcron.ports import JOBS, Document
from dcron.services.clients.registrar import Registrar, Registration
from dcron.services.clients.revisions import Revisions
from tests.unit.services.doubles import SPECIFICATION, SplitStore


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
        await revisions.get(job.uid, 2)
