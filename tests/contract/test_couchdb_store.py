from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dcron.adapters.couchdb.setup import REVISIONS_KEPT
from dcron.adapters.couchdb.store import CouchSettings, parse_couchdb_url
from dcron.domain.errors import SetupError, StoreUnreachable
from dcron.ports import JOBS, Document, executions_database

MONTH = executions_database(datetime(2026, 3, 1, tzinfo=UTC))
MARKS = ("967a00dff5e02add41819138abb3284d", "d4823bba83191814dda20e5ffd00a769")


def _dead_host():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


class TestUrl:
    def test_all_parts_are_read_and_credentials_decoded(self):
        settings = parse_couchdb_url("couchdb://us%40er:p%2Fa%3Ass@a:1,b.example:2,[::1]/my_prefix")
        assert settings == CouchSettings(
            ("http://a:1", "http://b.example:2", "http://[::1]:5984"), "my_prefix", "us@er", "p/a:ss"
        )

    def test_prefix_port_and_credentials_have_defaults(self):
        assert parse_couchdb_url("couchdb://a") == CouchSettings(("http://a:5984",), "dcron", None, None)
        assert parse_couchdb_url("couchdbs://u:p@a/").hosts == ("https://a:6984",)

    @pytest.mark.parametrize(
        "url",
        [
            "http://user:SECRET@a:1/x",
            "couchdb:user:SECRET@a",
            "couchdb://user:SECRET@/x",
            "couchdb://user:SECRET@a,,b/x",
            "couchdb://user:SECRET@a:port/x",
            "couchdb://user:SECRET@a:99999/x",
            "couchdb://user:SECRET@a/UPPER",
            "couchdb://user:SECRET@a/x/y",
            "couchdb://user:SECRET@a/x?y=1",
            "couchdb://user:SEC/RET@a/x",
            "couchdb://user:12/SECRET@a/x",
            "couchdb://user:#SECRET@a/x",
            "couchdb://SECRET@a/x",
            "couchdb://:SECRET@a/x",
        ],
    )
    def test_nonsense_is_refused_without_showing_the_password(self, url):
        with pytest.raises(SetupError) as caught:
            parse_couchdb_url(url)
        assert "SEC" not in str(caught.value)
        assert "SEC" not in repr(caught.value.__cause__)

    def test_settings_do_not_show_the_password(self):
        assert "SECRET" not in repr(parse_couchdb_url("couchdb://user:SECRET@a/x"))


class TestServer:
    async def test_a_wrong_password_is_a_set_up_error_that_names_user_and_host_only(self, couch, stores):
        user, password = f"nobody-{secrets.token_hex(4)}", "SECRET-WORD"
        store = stores(replace(couch.settings, user=user, password=password))
        with pytest.raises(SetupError) as caught:
            await store.prepare()
        assert user in str(caught.value)
        assert couch.settings.hosts[0] in str(caught.value)
        with pytest.raises(StoreUnreachable) as later:
            await store.read(JOBS, ["a"])
        assert "SECRET" not in f"{caught.value!r} {later.value!r}"

    @pytest.mark.real_couchdb
    async def test_all_leaves_are_read_the_winner_first_and_deleted_ones_not(self, couch, stores):
        store = stores(couch.settings)
        await store.prepare()
        low, high = sorted(MARKS)
        leaves = [
            {"_id": "a", "_rev": f"1-{low}", "n": 1},
            {"_id": "a", "_rev": f"1-{high}", "n": 2},
            {"_id": "a", "_rev": f"2-{'f' * 32}", "n": 3, "_deleted": True},
            {"_id": "b", "_rev": f"9-{low}", "n": 9},
            {"_id": "b", "_rev": f"10-{low}", "n": 10},
        ]
        path = f"{couch.settings.prefix}-jobs/_bulk_docs"
        await couch.ask("POST", path, {"new_edits": False, "docs": leaves})
        assert await store.read(JOBS, ["a", "b"]) == [
            (Document("a", {"n": 2}, f"1-{high}"), Document("a", {"n": 1}, f"1-{low}")),
            (Document("b", {"n": 10}, f"10-{low}"), Document("b", {"n": 9}, f"9-{low}")),
        ]
        assert (await couch.ask("GET", f"{couch.settings.prefix}-jobs/a"))["n"] == 2
        [deletion] = await store.write(JOBS, [Document("a", {}, f"1-{low}", deleted=True)])
        assert deletion.done
        assert await store.read(JOBS, ["a"]) == [(Document("a", {"n": 2}, f"1-{high}"),)]

    @pytest.mark.real_couchdb
    async def test_a_feed_tells_which_documents_have_branches(self, couch, stores):
        store = stores(couch.settings)
        await store.prepare()
        start = await store.changes(JOBS, None, wait_seconds=0)
        low, high = sorted(MARKS)
        leaves = [
            {"_id": "branched", "_rev": f"1-{low}", "n": 1},
            {"_id": "branched", "_rev": f"1-{high}", "n": 2},
            {"_id": "resolved", "_rev": f"1-{low}", "n": 1},
            {"_id": "resolved", "_rev": f"2-{high}", "_deleted": True},
            {"_id": "single", "_rev": f"1-{low}", "n": 1},
        ]
        path = f"{couch.settings.prefix}-jobs/_bulk_docs"
        await couch.ask("POST", path, {"new_edits": False, "docs": leaves})
        documents: dict[str, Document] = {}
        branched: set[str] = set()
        since = start.since
        while not documents.keys() >= {"branched", "resolved", "single"}:
            batch = await store.changes(JOBS, since, wait_seconds=5)
            assert batch.documents, "nothing more within 5 s"
            documents |= {document.id: document for document in batch.documents}
            branched = (branched - {each.id for each in batch.documents}) | batch.branched
            since = batch.since
        assert branched == {"branched"}
        assert documents["branched"].body == {"n": 2}

    async def test_a_month_is_made_ready_once_and_again_after_it_was_dropped(self, couch, stores):
        store = stores(couch.settings)
        await store.make_ready(MONTH)
        await store.make_ready(MONTH)
        assert await store.databases() == [MONTH]
        await store.drop(MONTH)
        assert await store.databases() == []
        await store.make_ready(MONTH)
        assert await store.databases() == [MONTH]

    @pytest.mark.real_couchdb
    async def test_preparing_lowers_the_number_of_revisions_that_are_kept(self, couch, stores):
        await stores(couch.settings).prepare()
        for database in ("jobs", "cluster"):
            assert await couch.ask("GET", f"{couch.settings.prefix}-{database}/_revs_limit") == REVISIONS_KEPT

    @pytest.mark.real_couchdb
    async def test_a_member_who_is_no_admin_finds_what_an_admin_has_made(self, couch, stores):
        name = f"member-{secrets.token_hex(4)}"
        user = {"name": name, "password": "SECRET-WORD", "roles": [], "type": "user"}
        created = await couch.ask("PUT", f"_users/org.couchdb.user:{name}", user)
        try:
            member = stores(replace(couch.settings, user=name, password="SECRET-WORD"))
            with pytest.raises(SetupError, match="admin has to make it") as caught:
                await member.prepare()
            assert "SECRET" not in str(caught.value)
            await stores(couch.settings).prepare()
            rights = {"admins": {"names": []}, "members": {"names": [name]}}
            for database in ("jobs", "cluster", "audit"):
                await couch.ask("PUT", f"{couch.settings.prefix}-{database}/_security", rights)
            await member.prepare()
            [result] = await member.write(JOBS, [Document("a", {"next_at": "x"})])
            assert result.done
            with pytest.raises(StoreUnreachable, match="admin has to make it"):
                await member.make_ready(MONTH)
        finally:
            await couch.ask("DELETE", f"_users/org.couchdb.user:{name}?rev={created['rev']}")

    async def test_a_host_that_refuses_connections_is_passed_over_at_once(self, couch, stores):
        store = stores(replace(couch.settings, hosts=(_dead_host(), *couch.settings.hosts)))
        await store.prepare()
        [result] = await store.write(JOBS, [Document("a", {})])
        assert result.done

    async def test_when_no_host_answers_the_store_is_unreachable(self, stores):
        store = stores(CouchSettings((_dead_host(), _dead_host()), user="user", password="SECRET"))
        for call in (store.prepare(), store.read(JOBS, ["a"]), store.changes(JOBS, "0", wait_seconds=5)):
            with pytest.raises(StoreUnreachable) as caught:
                await call
            assert "SECRET" not in repr(caught.value)

    async def test_a_silent_server_costs_one_deadline_and_is_left_for_the_next_host(
        self, couch_server, couch, stores
    ):
        await stores(couch.settings).prepare()
        hosts = (*parse_couchdb_url(couch_server.url).hosts, *couch.settings.hosts)
        store = stores(replace(couch.settings, hosts=hosts), call_seconds=1.0)
        couch_server.pause()
        started = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnreachable, match="did not answer within 1 s"):
            await store.write(JOBS, [Document("a", {})])
        assert asyncio.get_running_loop().time() - started < 3
        [result] = await store.write(JOBS, [Document("a", {})])
        assert result.done

    async def test_after_an_outage_the_same_store_goes_on(self, couch_server, stores):
        store = stores(parse_couchdb_url(couch_server.url), call_seconds=1.0)
        await store.prepare()
        couch_server.pause()
        with pytest.raises(StoreUnreachable):
            await store.read(JOBS, ["a"])
        couch_server.resume()
        assert await store.read(JOBS, ["a"]) == [()]

    async def test_read_one_by_one_documents_have_the_same_leaves(self, couch, stores):
        store = stores(couch.settings)
        await store.prepare()
        await store.write(JOBS, [Document("job", {"a": 1}), Document("~uid:1", {"a": 2})])
        [gone] = await store.write(JOBS, [Document("gone", {})])
        await store.write(JOBS, [Document("gone", {}, gone.revision, deleted=True)])
        ids = ["job", "~uid:1", "gone", "missing"]
        in_bulk = await store.read(JOBS, ids)
        store._reader._one_by_one_until = float("inf")
        assert await store.read(JOBS, ids) == in_bulk
        assert [len(leaves) for leaves in in_bulk] == [1, 1, 0, 0]
        assert await store.read(executions_database(datetime(2031, 1, 1, tzinfo=UTC)), ["missing"]) == [()]
