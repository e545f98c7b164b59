from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dcron.adapters.sqlite import store as sqlite_adapter
from dcron.adapters.sqlite.store import SqliteDocumentStore, parse_sqlite_url
from dcron.domain.errors import SetupError, StoreUnreachable
from dcron.ports import CLUSTER, JOBS, Document, WriteKind

PROCESSES = 4
CONTESTS = 50

CONTESTANT = """
import asyncio, json, sys
from pathlib import Path
from dcron.adapters.sqlite import store as sqlite_adapter
from dcron.adapters.sqlite.store import SqliteDocumentStore
from dcron.ports import CLUSTER, Document

async def main(path, name, contests):
    store = SqliteDocumentStore(Path(path), call_seconds=30)
    await store.prepare()
    print("ready", flush=True)
    sys.stdin.readline()
    won = []
    for contest in range(int(contests)):
        [result] = await store.write(CLUSTER, [Document(f"term:{contest:03}", {"holder": name})])
        if result.done:
            won.append(contest)
    print(json.dumps(won), flush=True)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def store(tmp_path):
    store = SqliteDocumentStore(tmp_path / "store.db")
    await store.prepare()
    yield store
    await store.close()


@pytest.fixture
async def stores():
    """Makes stores and closes them."""
    made = []

    def make(path, **options):
        made.append(SqliteDocumentStore(path, **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


class TestUrl:
    def test_three_slashes_are_relative_and_four_absolute(self):
        assert parse_sqlite_url("sqlite:///a/b.db") == Path("a/b.db")
        assert parse_sqlite_url("sqlite:////a/b.db") == Path("/a/b.db")

    @pytest.mark.parametrize(
        "url",
        ["sqlite://a", "sqlite:///", "sqlite:////", "sqlite:///a/", "sqlite:a", "file:///a", "sqlite:///a?b"],
    )
    def test_nonsense_is_refused(self, url):
        with pytest.raises(SetupError, match="store URL"):
            parse_sqlite_url(url)


async def test_of_processes_that_race_each_contest_has_one_winner(tmp_path, store):
    command = [sys.executable, "-c", CONTESTANT, str(tmp_path / "store.db")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, f"p{n}", str(CONTESTS)], **pipes) for n in range(PROCESSES)]
    try:
        for process in processes:
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [await asyncio.to_thread(process.communicate, timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    won = [set(json.loads(output)) for output, _ in outputs]
    assert sum(len(one) for one in won) == CONTESTS
    stored = await store.range(CLUSTER, "", "~", limit=99)
    holders = {document.id: document.body["holder"] for document in stored}
    assert holders == {f"term:{contest:03}": f"p{n}" for n, one in enumerate(won) for contest in one}


async def test_what_was_written_is_there_after_the_file_is_opened_again(tmp_path, stores):
    first = SqliteDocumentStore(tmp_path / "store.db")
    await first.prepare()
    [result] = await first.write(JOBS, [Document("a", {"n": 1})])
    position = await first.changes(JOBS, None, wait_seconds=0)
    await first.close()
    second = stores(tmp_path / "store.db")
    await second.prepare()
    assert await second.read(JOBS, ["a"]) == [(Document("a", {"n": 1}, result.revision),)]
    assert (await second.changes(JOBS, position.since, wait_seconds=0)).documents == ()


async def test_a_commit_by_another_connection_ends_the_wait_for_changes(tmp_path, stores, store, monkeypatch):
    # Not by the reading that comes by itself after a while.
    monkeypatch.setattr(sqlite_adapter, "CHANGES_READ_SECONDS", 1000.0)
    await store.write(JOBS, [Document("a", {})])
    position = await store.changes(JOBS, None, wait_seconds=0)
    waiting = asyncio.create_task(store.changes(JOBS, position.since, wait_seconds=20))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await stores(tmp_path / "store.db").write(JOBS, [Document("b", {})])
    async with asyncio.timeout(5):
        assert [document.id for document in (await waiting).documents] == ["b"]


async def test_the_file_can_be_read_by_its_owner_only(tmp_path, store):
    await store.write(JOBS, [Document("a", {})])
    files = list(tmp_path.glob("store.db*"))
    assert len(files) >= 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_file_of_a_newer_dcron_is_refused(tmp_path, stores):
    path = tmp_path / "store.db"
    first = SqliteDocumentStore(path)
    await first.prepare()
    await first.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SetupError, match="newer dcron"):
        await stores(path).prepare()


async def test_a_database_of_something_else_is_refused_and_left_as_it_is(tmp_path, stores):
    path = tmp_path / "store.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE others (a)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SetupError, match="something else"):
        await stores(path).prepare()
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused(tmp_path, stores):
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all, but long enough for a header" * 100)
    with pytest.raises(SetupError, match="not a database"):
        await stores(path).prepare()


@pytest.mark.parametrize("place", ["missing/store.db", "file/store.db", "folder"])
async def test_a_place_where_no_file_can_be_is_refused(tmp_path, stores, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SetupError, match="cannot use"):
        await stores(tmp_path / place).prepare()


async def test_a_lock_that_another_process_holds_for_too_long_makes_the_store_unreachable(tmp_path, store):
    holder = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnreachable, match="locked"):
            await store.write(JOBS, [Document("a", {})])
        assert await store.read(JOBS, ["a"]) == [()]
        holder.execute("COMMIT")
        [result] = await store.write(JOBS, [Document("a", {})])
        assert result.done
    finally:
        holder.close()


async def test_a_disk_that_is_full_makes_the_store_unreachable_and_stores_nothing(store):
    await store.write(JOBS, [Document("a", {})])
    pages = await store._call(
        lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchone()[0], writes=False
    )
    assert pages > 1
    with pytest.raises(StoreUnreachable, match="full"):
        await store.write(JOBS, [Document("small", {}), Document("large", {"text": "x" * 1_000_000})])
    assert await store.read(JOBS, ["a", "small"]) == [((await store.read(JOBS, ["a"]))[0][0],), ()]
    [result] = await store.write(JOBS, [Document("small", {})])
    assert result.kind is WriteKind.DONE


async def test_writes_of_the_same_moment_share_a_commit(store, monkeypatch):
    commits = []
    transact = SqliteDocumentStore._transact

    def counting(connection, calls):
        commits.append(len(calls))
        return transact(connection, calls)

    monkeypatch.setattr(SqliteDocumentStore, "_transact", staticmethod(counting))
    await asyncio.gather(*(store.write(JOBS, [Document(f"{n}", {})]) for n in range(100)))
    assert sum(commits) == 100
    assert len(commits) < 50


async def test_positions_stay_true_after_a_month_was_dropped(store):
    months = ("executions-2026-01", "executions-2026-02")
    await store.write(months[0], [Document(f"{n}", {}) for n in range(20)])
    position = await store.changes(months[1], None, wait_seconds=0)
    await store.drop(months[0])
    await store.write(months[1], [Document("a", {})])
    batch = await store.changes(months[1], position.since, wait_seconds=0)
    assert [document.id for document in batch.documents] == ["a"]


@pytest.mark.parametrize("column", ["id", "next_at", "state_at"])
async def test_finding_and_listing_cost_what_they_give_and_not_what_is_stored(store, column):
    query = (
        f"EXPLAIN QUERY PLAN SELECT id FROM documents WHERE database = ? AND {column} >= ? AND {column} < ?"  # noqa: S608
        f" ORDER BY {column}, id LIMIT 5"
    )

    def explain(connection):
        return str(connection.execute(query, ("jobs", "", "x")).fetchall())

    plan = await store._call(explain, writes=False)
    assert "INDEX" in plan
    assert "TEMP B-TREE" not in plan
