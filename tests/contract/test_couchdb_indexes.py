from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from dcron.adapters.couchdb import indexes
from dcron.ports import Document, executions_database

MONTH = executions_database(datetime(2026, 3, 1, tzinfo=UTC))
PATIENCE_SECONDS = 10.0
POLL_SECONDS = 0.05
BURST_SECONDS = 0.3


def _documents(count, prefix="x"):
    return [Document(f"{prefix}{n:05}", {"claimed_at": f"{n:05}"}) for n in range(count)]


async def _eventually(condition):
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():
            await asyncio.sleep(POLL_SECONDS)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(indexes, "UNINDEXED_DOCUMENTS", 10)
    monkeypatch.setattr(indexes, "BURST_SECONDS", BURST_SECONDS)


@pytest.mark.real_couchdb
async def test_what_is_written_in_bulk_is_indexed_before_anyone_asks(couch, stores):
    store = stores(couch.settings)
    await store.prepare()
    await store.make_ready(MONTH)
    design = f"{couch.settings.prefix}-{MONTH}/_design/dcron"
    # Left to itself: CouchDB would index what little there is at once, and hide who did.
    body = await couch.ask("GET", design)
    await couch.ask("PUT", design, {**body, "autoupdate": False})

    async def pending():
        info = await couch.ask("GET", f"{design}/_info")
        return info["view_index"]["updates_pending"]["minimum"]

    await store.write(MONTH, _documents(9))
    await asyncio.sleep(2 * BURST_SECONDS)
    assert await pending() >= 9
    await store.write(MONTH, _documents(1, prefix="last"))

    async def is_indexed():
        return await pending() == 0

    await _eventually(is_indexed)


class _Month:
    """Answers writes to a month's database; what asks its indexes gets `answer`."""

    def __init__(self, script, answer):
        self.script = script
        self.answer = answer
        self.asked = []

    def expect(self, *kinds):
        answers = {"write": self._write, "find": self._find}
        self.script.answers.extend(answers[kind] for kind in kinds)

    def _write(self, body):
        return 201, [{"ok": True, "id": each["_id"], "rev": "1-a"} for each in body["docs"]]

    def _find(self, body):
        self.asked.append(body)
        return self.answer


@pytest.fixture
async def ready(script, scripted):
    """A store that knows its month's database, by a script."""
    indexes = [{"name": each, "ddoc": "_design/dcron"} for each in ("claimed_at", "state_at")]
    script.answers.extend([(200, {}), (200, {"indexes": indexes})])
    await scripted.make_ready(MONTH)
    return scripted


async def test_the_indexes_are_asked_once_after_so_many_documents(script, ready):
    month = _Month(script, (200, {"docs": []}))
    month.expect("write", "write", "find", "write", "write", "find")
    for round_number in range(2):
        await ready.write(MONTH, _documents(9, prefix=f"a{round_number}-"))
        assert len(month.asked) == round_number
        await ready.write(MONTH, _documents(1, prefix=f"b{round_number}-"))
        assert len(month.asked) == round_number, "what comes in a burst starts first"

        async def was_asked(times=round_number + 1):
            return len(month.asked) == times

        await _eventually(was_asked)
    assert [(body["limit"], body["use_index"]) for body in month.asked] == [(1, ["dcron", "claimed_at"])] * 2


async def test_a_server_that_cannot_index_now_is_reported_and_asked_again_later(script, ready, capsys):
    month = _Month(script, (500, {"error": "timeout", "reason": "The request could not be processed"}))
    month.expect("write", "find")
    results = await ready.write(MONTH, _documents(10))
    assert all(result.done for result in results)

    async def was_reported():
        return "indexes are behind" in capsys.readouterr().out

    await _eventually(was_reported)
    month.expect("write", "find")
    await ready.write(MONTH, _documents(10, prefix="y"))

    async def was_asked_again():
        return len(month.asked) == 2

    await _eventually(was_asked_again)
