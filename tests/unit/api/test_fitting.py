"""Pages that end early by their size."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dcron.api import fitting as module
from dcron.api.fitting import fitting
from dcron.rpc import dcron_pb2 as pb

USUAL = 20


def revision(name: str) -> pb.JobRevision:
    return pb.JobRevision(job=name, uid="x" * 1_000)


@pytest.mark.parametrize(("kilobytes", "pages"), [(100, [10]), (4, [3, 3, 3, 1]), (0, [1] * 10)])
async def test_pages_fit_and_hold_every_entry_once(
    monkeypatch: pytest.MonkeyPatch, kilobytes: int, pages: list[int]
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", kilobytes * 1_000)
    entries = [revision(f"job-{n}") for n in range(10)]
    seen: list[list[pb.JobRevision]] = []
    token = "0"
    while token:
        start = int(token)

        async def ask(size: int, start: int = start) -> tuple[Sequence[pb.JobRevision], str]:
            end = start + (size or USUAL)
            return entries[start:end], str(end) if end < len(entries) else ""

        found, token = await fitting(ask, 0)
        seen.append(list(found))
    assert [len(page) for page in seen] == pages
    assert [each for page in seen for each in page] == entries
