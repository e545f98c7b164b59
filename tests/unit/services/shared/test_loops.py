"""Loops go on while a store is away, with the pauses that they promise, and say each trouble once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from dcron.domain.errors import ObjectsUnreachable, StoreUnreachable
from dcron.services.shared import loops
from dcron.services.shared.trouble import Trouble


class Enough(Exception):
    """Ends a loop that would go on for ever, as a defect would."""


class Script:
    """Answers to one call after another; an exception is raised. After the last one Enough is."""

    def __init__(self, *answers: object) -> None:
        self._answers = iter(answers)

    async def __call__(self) -> float:
        answer = next(self._answers, Enough())
        if isinstance(answer, Exception):
            raise answer
        return float(str(answer))


class Silent(Script):
    """A script of which only the failures matter."""

    async def __call__(self) -> None:
        await super().__call__()


@pytest.fixture
async def pauses(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[float]]:
    """The pauses that loops made; none takes any time."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        yield made


@pytest.fixture
def trouble() -> Trouble:
    return Trouble("poll", "cannot look", "looks again")


async def test_what_acts_says_how_long_until_the_next_time_but_not_after_a_failure(
    pauses: list[float], trouble: Trouble
) -> None:
    with capture_logs() as lines, pytest.raises(Enough):
        await loops.repeat(Script(3, StoreUnreachable("gone"), StoreUnreachable("gone"), 0), trouble)
    assert pauses == [3.0, loops.BACKOFF_SECONDS, loops.BACKOFF_SECONDS, 0.0]
    assert [line["event"] for line in lines] == ["cannot look", "looks again"]


async def test_what_is_done_every_so_often_keeps_its_pause_after_a_failure(
    pauses: list[float], trouble: Trouble
) -> None:
    with pytest.raises(Enough):
        await loops.every(60.0, Silent(1, StoreUnreachable("gone")), trouble)
    assert pauses == [60.0, 60.0]
    assert trouble.reason == "gone", "a defect says nothing of the store"


async def test_a_start_waits_longer_and_longer_for_either_store(
    pauses: list[float], trouble: Trouble
) -> None:
    failures = [StoreUnreachable("gone"), ObjectsUnreachable("gone")] * 3
    await loops.until_reachable(Silent(*failures, 1), trouble)
    assert pauses == [*loops.GROWING_BACKOFF_SECONDS, loops.GROWING_BACKOFF_SECONDS[-1]]
    assert not trouble


@pytest.mark.parametrize("error", [ObjectsUnreachable("gone"), ValueError("defect")])
async def test_only_an_unreachable_document_store_is_outlasted(
    error: Exception, pauses: list[float], trouble: Trouble
) -> None:
    with pytest.raises(type(error)):
        await loops.repeat(Script(error), trouble)
    assert not pauses
    assert not trouble
