"""Three nodes under mutual TLS: the main job, who is refused what, and certificates replaced meanwhile."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from dcron.credentials import CertificateFiles
from dcron.rpc import dcron_pb2 as pb
from dcron.rpc.dcron_pb2_grpc import InternalStub
from tests.certificates import Authority, client_environment, node_environment, write_whole
from tests.object_stores import S3Access
from tests.system.cluster import Cluster, NodeProcess, serving, wait_for

CALL_SECONDS = 5.0


@dataclass
class Secured:
    authority: Authority
    cluster: Cluster
    certificates: dict[str, CertificateFiles]
    """Of the nodes, by id."""

    def as_client(self, files: CertificateFiles) -> None:
        """Let commands show this certificate from now on."""
        self.cluster.client_environment = client_environment(files)


@pytest.fixture
def secured(tmp_path: Path, couch_url: str, s3: S3Access) -> Iterator[Secured]:
    authority = Authority(tmp_path / "ca")
    cluster = Cluster(tmp_path, couch_url, s3.url, s3.environment)
    certificates = {node.id: authority.issue(node.id, "dcron-node") for node in cluster.nodes}
    for node in cluster.nodes:
        node.environment |= node_environment(certificates[node.id])
    made = Secured(authority, cluster, certificates)
    made.as_client(authority.issue("alice", "dcron-admin"))
    with serving(cluster):
        yield made


def run_on(cluster: Cluster, name: str, via: NodeProcess, worker: NodeProcess, reader: NodeProcess) -> str:
    """Register a job through one node, let it run on another, and read its log through a third."""
    options = ("--schedule", "* * * * * *", "--label", f"host={worker.id}")
    cluster.create(name, 'echo "on $DCRON_NODE"', *options, via=[via])
    execution = cluster.settled(name)[0]
    cluster.do("job", "delete", name, "--yes")
    assert (execution["nodeId"], execution["state"]) == (worker.id, "EXECUTION_STATE_SUCCEEDED")
    return cluster.do("execution", "log", execution["id"], via=[reader])


def test_the_main_job_runs_and_each_is_held_to_its_role(secured, tmp_path):
    cluster, authority = secured.cluster, secured.authority
    first, second, third = cluster.nodes

    assert run_on(cluster, "hello", first, second, third) == f"on {second.id}\n"

    changes = cluster.ask("audit", "--job", "hello")["records"]
    assert [(each["method"], each["who"], each["result"]) for each in changes] == [
        ("DeleteJob", "alice", "OK"),
        ("CreateJob", "alice", "OK"),
    ]
    assert changes[-1]["nodeId"] == first.id

    secured.as_client(authority.issue("victor", "dcron-viewer"))
    script = tmp_path / "a.sh"
    script.write_text("true")
    words = ("job", "create", "a", "--schedule", "@daily", "--interpreter", "sh", str(script))
    refused = cluster.cli(*words)
    assert (refused.returncode, refused.stderr.decode()) == (
        1,
        "dcron: needs role operator; the certificate of victor has viewer\n",
    )
    assert cluster.ask("job", "list")["jobs"] == []
    assert cluster.cli("audit").returncode == 1

    stranger = Authority(tmp_path / "other").issue("eve", "dcron-admin")
    secured.as_client(CertificateFiles(stranger.certificate, stranger.key, authority.file))
    refused = cluster.cli("job", "list")
    assert refused.returncode == 4
    assert "does not accept the certificate of eve" in refused.stderr.decode()

    admin = authority.issue("mallory", "dcron-admin")
    code, details = offered_as(admin, first)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert details == "needs role node; the certificate of mallory has admin"


def offered_as(files: CertificateFiles, node: NodeProcess) -> tuple[grpc.StatusCode, str]:
    """What comes of asking a node what only nodes may ask."""
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    with grpc.secure_channel(node.address, credentials, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            InternalStub(channel).Offer(pb.OfferRequest(), timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def test_a_new_ca_takes_the_place_of_the_old_one_while_all_run(secured, tmp_path):
    cluster = secured.cluster
    first, second, third = cluster.nodes
    newer = Authority(tmp_path / "newer", "newer CA")

    # First both are believed, then the certificates change, then the old one is believed no more.
    write_whole(secured.authority.file, secured.authority.file.read_bytes() + newer.file.read_bytes())
    assert run_on(cluster, "before", first, second, third) == f"on {second.id}\n"
    for node_id, files in secured.certificates.items():
        newer.issue(f"{node_id}-renewed", "dcron-node", into=files)
    assert run_on(cluster, "between", second, third, first) == f"on {third.id}\n"
    secured.as_client(newer.issue("bob", "dcron-operator"))
    write_whole(secured.authority.file, newer.file.read_bytes())

    for worker in cluster.nodes:
        name = f"after-{worker.id}"
        assert run_on(cluster, name, first, worker, third) == f"on {worker.id}\n"
    for node in cluster.nodes:
        wait_for(f"{node.id} shows its new certificate", lambda node=node: is_believed(node, newer))
        assert "took up new certificates" in node.log.read_text()
        assert "PRIVATE" not in node.log.read_text()
    assert cluster.leader_id()


def is_believed(node: NodeProcess, authority: Authority) -> bool:
    """Whether what a node shows is of a CA, and of no other."""
    context = ssl.create_default_context(cafile=authority.file)
    context.set_alpn_protocols(["h2"])
    host, _, port = node.address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), CALL_SECONDS) as connection:
            context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLError:
        return False
    return True
