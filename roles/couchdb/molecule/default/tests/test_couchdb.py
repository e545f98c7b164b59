"""What the role couchdb leaves on hosts. What a stand-in cannot do is skipped there, and says so."""

import json
import os
import urllib.parse

import pytest

IS_REAL = bool(os.environ.get("COUCHDB_DEB"))
needs_real = pytest.mark.skipif(not IS_REAL, reason="a stand-in for CouchDB cannot do this: set COUCHDB_DEB")
HOSTS = {f"couchdb-{number}": f"172.30.83.1{number}" for number in (1, 2, 3)}
ADMIN = "admin:an admin's p@ssword"
DOCUMENTS = 1000
"""Those that prepare.yml has written to the first host, when it was alone."""
DCRON = "dcron:dcron's p@ssword"


@pytest.fixture
def ask(host):
    """Asks the host's CouchDB; the status and the JSON of its answer."""
    address = HOSTS[host.backend.get_pytest_id().removeprefix("ansible://")]

    def do(user, path, method="GET", body=None):
        command = (
            "curl --silent --show-error --max-time 20 --write-out '\\n%%{http_code}' -X %s -H %s --data %s"
        )
        given = [method, "Content-Type: application/json", "" if body is None else json.dumps(body)]
        if user:
            command += " --user %s"
            given.append(user)
        answer = host.run(f"{command} %s", *given, f"http://{address}:5984{path}")
        assert answer.rc == 0, answer.stderr
        content, _, status = answer.stdout.rpartition("\n")
        return int(status), json.loads(content)

    return do


def test_it_runs_and_starts_at_boot(host):
    service = host.service("couchdb")
    assert service.is_running
    assert service.is_enabled


@needs_real
def test_the_hosts_are_one_cluster(ask):
    _, answer = ask(ADMIN, "/_membership")
    names = sorted(f"couchdb@{address}" for address in HOSTS.values())
    assert sorted(answer["all_nodes"]) == sorted(answer["cluster_nodes"]) == names


@needs_real
@pytest.mark.parametrize("database", ["_users", "dcron-jobs", "dcron-cluster"])
def test_documents_are_kept_three_times(ask, database):
    _, answer = ask(ADMIN, f"/{database}")
    assert answer["cluster"]["n"] == 3


@needs_real
def test_each_host_has_all_documents_also_one_that_joined_and_one_that_came_back_blank(ask):
    _, placed = ask(ADMIN, "/_node/_local/_dbs/dcron-jobs")
    suffix = bytes(placed["shard_suffix"]).decode()
    shards = [f"shards/{part}/dcron-jobs{suffix}" for part in placed["by_range"]]
    counts = [
        ask(ADMIN, f"/_node/_local/{urllib.parse.quote(shard, safe='')}")[1]["doc_count"] for shard in shards
    ]
    assert sum(counts) == DOCUMENTS


@needs_real
def test_no_host_is_in_maintenance_mode(host, ask):
    assert ask(ADMIN, "/_up")[1]["status"] == "ok"
    assert not host.file("/opt/couchdb/etc/local.d/40-dcron-maintenance.ini").exists


def test_the_admin_is_let_in(ask):
    assert ask(ADMIN, "/_session")[1]["userCtx"]["roles"] == ["_admin"]


@needs_real
def test_nobody_else_is_without_a_password(ask):
    assert ask(None, "/dcron-jobs")[0] == 401
    assert ask("dcron:wrong", "/dcron-jobs")[0] == 401


def test_the_databases_of_now_and_of_the_months_to_come_are_there(ask):
    _, names = ask(ADMIN, "/_all_dbs")
    assert {"dcron-jobs", "dcron-cluster", "dcron-audit"} <= set(names)
    assert len([name for name in names if name.startswith("dcron-executions-")]) == 3


def test_dcrons_user_reads_and_writes_its_databases(ask):
    status, answer = ask(DCRON, "/dcron-jobs/test", "PUT", {"of": "a test"})
    assert status in (201, 202)
    assert ask(DCRON, "/dcron-jobs/test")[1]["of"] == "a test"
    assert ask(DCRON, f"/dcron-jobs/test?rev={answer['rev']}", "DELETE")[0] in (200, 202)


@needs_real
@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/other", "PUT"),
        ("/dcron-jobs", "DELETE"),
        ("/_users/_all_docs", "GET"),
        ("/_node/_local/_config", "GET"),
    ],
)
def test_dcrons_user_may_do_nothing_else(ask, path, method):
    assert ask(DCRON, path, method)[0] in (401, 403)


def test_it_listens_on_the_address_it_was_given_and_nowhere_else(host):
    own = {"127.0.0.1", "[::1]", HOSTS[host.check_output("hostname")]}
    lines = host.check_output("ss --no-header --listening --tcp --numeric").splitlines()
    places = [line.split()[3].rpartition(":") for line in lines]
    ours = [(address, port) for address, _, port in places if port in {"5984", "5986", "4369", "9100"}]
    assert {address for address, _ in ours} <= own
    assert (HOSTS[host.check_output("hostname")], "5984") in ours


@pytest.mark.parametrize(
    ("path", "user", "mode"),
    [
        ("/opt/couchdb/etc/local.d/50-dcron.ini", "couchdb", 0o640),
        ("/opt/couchdb/etc/dcron.vm.args", "couchdb", 0o640),
        ("/etc/couchdb-dcron-admin", "root", 0o600),
    ],
)
def test_secrets_are_in_files_of_their_own(host, path, user, mode):
    file = host.file(path)
    assert (file.user, file.mode) == (user, mode)
    assert "p@ssword" not in host.file("/opt/couchdb/etc/local.d/50-dcron.ini").content_string


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("User", "couchdb"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("CapabilityBoundingSet", ""),
        ("RestrictSUIDSGID", "yes"),
    ],
)
def test_the_unit_is_hardened(host, name, value):
    assert host.check_output(f"systemctl show --property {name} --value couchdb") == value


def test_the_databases_unit_does_what_it_should(host):
    assert host.service("couchdb-dcron-databases.timer").is_running
    host.check_output("systemctl start couchdb-dcron-databases.service")
    assert host.check_output("systemctl show --property Result --value couchdb-dcron-databases") == "success"


def test_a_backup_holds_all_databases(host):
    if host.check_output("hostname") != "couchdb-1":
        pytest.skip("backups are made on the first host")
    assert host.service("couchdb-dcron-backup.timer").is_running
    host.check_output("systemctl start couchdb-dcron-backup.service")
    newest = host.check_output("ls -d /var/backups/couchdb/*").splitlines()[-1]
    assert len(host.check_output(f"ls {newest}").splitlines()) == 6
    assert host.file(newest).mode == 0o700
