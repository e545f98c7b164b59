"""TLS from the command line: it works with a certificate, and each thing that is wrong has its own line."""

from __future__ import annotations

import ssl
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Self

import grpc
import pytest

from dcron.rpc import dcron_pb2 as pb
from tests.certificates import DAY, Authority
from tests.unit.cli.fake_node import aborting


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


@pytest.fixture
def tls_node(make_node, authority):
    node = make_node(authority.issue("n1", "dcron-node"))
    node.on("ListJobs", pb.ListJobsResponse())
    return node


def flags(files, ca=None):
    return "--ca", str(ca or files.ca), "--cert", str(files.certificate), "--key", str(files.key)


def list_jobs(dcron, node, *options, host="127.0.0.1"):
    return dcron(*options, "job", "list", "--server", f"{host}:{node.address.rpartition(':')[2]}")


def unreachable(done):
    """The one line that says why there is no connection."""
    assert (done.exit_code, done.out) == (4, "")
    assert done.err.count("\n") == 1
    assert "start one" not in done.err
    assert "PRIVATE" not in done.err
    return done.err


def test_with_a_certificate_it_talks_tls(dcron, tls_node, authority):
    assert list_jobs(dcron, tls_node, *flags(authority.issue("alice"))).exit_code == 0
    assert len(tls_node.asked("ListJobs")) == 1


def test_the_environment_names_the_files_as_well(dcron, tls_node, authority, monkeypatch):
    files = authority.issue("alice")
    for name, path in (("CA", files.ca), ("CERT", files.certificate), ("KEY", files.key)):
        monkeypatch.setenv(f"DCRON_{name}", str(path))
    assert list_jobs(dcron, tls_node).exit_code == 0


def test_a_server_that_demands_tls_is_told_from_one_that_is_down(dcron, tls_node):
    line = unreachable(list_jobs(dcron, tls_node))
    assert f"{tls_node.address}: it demands TLS: give --ca, --cert and --key" in line


def test_a_server_without_tls_is_told_from_one_that_is_down(dcron, node, authority):
    assert "it has no TLS" in unreachable(list_jobs(dcron, node, *flags(authority.issue("alice"))))


def test_a_server_that_is_down_is_still_down(dcron, dead_address, authority):
    done = dcron(*flags(authority.issue("alice")), "job", "list", "--server", dead_address)
    assert f"{dead_address}: connection refused); start one" in done.err


def test_a_server_of_another_ca(dcron, tls_node, tmp_path):
    other = Authority(tmp_path / "other")
    line = unreachable(list_jobs(dcron, tls_node, *flags(other.issue("alice"))))
    assert f"its certificate is not of the CA in {other.file}" in line


def test_a_certificate_of_another_ca(dcron, tls_node, authority, tmp_path):
    files = Authority(tmp_path / "other").issue("alice")
    line = unreachable(list_jobs(dcron, tls_node, *flags(files, ca=authority.file)))
    assert f"it does not accept the certificate of alice in {files.certificate}" in line


def test_ones_own_certificate_has_expired(dcron, tls_node, authority):
    files = authority.issue("alice", lasts=-DAY)
    line = unreachable(list_jobs(dcron, tls_node, *flags(files)))
    assert f"the certificate of alice in {files.certificate} has expired on " in line


def test_the_servers_certificate_has_expired(dcron, make_node, authority):
    node = make_node(authority.issue("n1", lasts=timedelta(hours=-1)))
    line = unreachable(list_jobs(dcron, node, *flags(authority.issue("alice"))))
    assert "its certificate has expired: renew it on that node" in line


def test_a_wrong_host_name(dcron, make_node, authority):
    node = make_node(authority.issue("n1", hosts=["n1.example"]))
    line = unreachable(list_jobs(dcron, node, *flags(authority.issue("alice"))))
    assert "its certificate does not name 127.0.0.1" in line


def test_a_role_that_is_too_low_is_said_as_the_node_says_it(dcron, tls_node, authority):
    words = "needs role operator; the certificate of alice has viewer"
    tls_node.on("PauseJob", aborting(grpc.StatusCode.PERMISSION_DENIED, words))
    done = dcron(
        *flags(authority.issue("alice")), "job", "pause", "a", "--server", tls_node.address
    )  # fmt: skip
    assert (done.exit_code, done.err) == (1, f"dcron: {words}\n")


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_half_of_what_tls_needs_is_a_wrong_usage(dcron, dead_address, authority, left_out):
    words = flags(authority.issue("alice"))
    given = words[: 2 * left_out] + words[2 * left_out + 2 :]
    done = dcron(*given, "job", "list", "--server", dead_address)
    assert done.exit_code == 2
    assert done.err.endswith(f"{words[2 * left_out]} is missing\n")


def test_files_that_cannot_be_used_are_named(dcron, dead_address, authority):
    files = authority.issue("alice")
    files.key.write_text("nothing")
    done = dcron(*flags(files), "job", "list", "--server", dead_address)
    assert (done.exit_code, done.err) == (2, f"dcron: {files.key} holds no private key in PEM\n")


def test_a_script_is_uploaded_to_a_store_of_the_same_ca(dcron, tls_node, authority, tmp_path, https_store):
    script = tmp_path / "a.sh"
    script.write_text("true\n")
    tls_node.on("PrepareUpload", pb.PrepareUploadResponse(url=f"{https_store.url}/scripts/a"))
    tls_node.on("CreateJob", pb.Job(name="a"))
    words = ("job", "create", "a", "--schedule", "@daily", "--interpreter", "sh", str(script))
    done = dcron(*flags(authority.issue("alice")), "--server", tls_node.address, *words)
    assert (done.exit_code, done.err) == (0, "")
    assert https_store.bodies == [b"true\n"]


def test_a_store_of_an_unknown_ca_gets_no_script(dcron, node, tmp_path, https_store):
    script = tmp_path / "a.sh"
    script.write_text("true\n")
    node.on("PrepareUpload", pb.PrepareUploadResponse(url=f"{https_store.url}/scripts/a"))
    words = ("job", "create", "a", "--schedule", "@daily", "--interpreter", "sh", str(script))
    done = dcron("--server", node.address, *words)
    assert done.exit_code == 1
    assert "its certificate is not accepted" in done.err
    assert https_store.bodies == []


@pytest.fixture
def https_store(authority):
    """A server that takes what is put, as an object store behind a signed URL does."""
    files = authority.issue("store")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    with Store(context) as store:
        yield store


class Store:
    def __init__(self, context: ssl.SSLContext) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        # The handshake belongs to the thread that answers, or accepting would fail with it.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._server.handle_error = lambda request, address: None
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
