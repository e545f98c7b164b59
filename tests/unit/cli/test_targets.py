"""Which cluster a command talks to: flags, the environment, and contexts in client.toml."""

from __future__ import annotations

import pytest

from dcron.rpc import dcron_pb2 as pb
from tests.certificates import Authority


@pytest.fixture
def write_contexts(tmp_path):
    def write(text, folder="config/dcron"):
        path = tmp_path / folder / "client.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def served(make_node):
    """Two nodes that list jobs."""
    nodes = [make_node(), make_node()]
    for node in nodes:
        node.on("ListJobs", pb.ListJobsResponse())
    return nodes


def asked(nodes):
    return [len(node.asked("ListJobs")) for node in nodes]


def two_contexts(nodes):
    return (
        f'current = "one"\n[contexts.one]\nserver = "{nodes[0].address}"\n'
        f'[contexts.two]\nserver = "{nodes[1].address}"\n'
    )


def test_the_current_context_is_used_when_nothing_else_is_said(dcron, served, write_contexts):
    write_contexts(two_contexts(served))
    assert dcron("job", "list").exit_code == 0
    assert asked(served) == [1, 0]


def test_a_context_is_chosen_by_name(dcron, served, write_contexts, monkeypatch):
    write_contexts(two_contexts(served))
    assert dcron("--context", "two", "job", "list").exit_code == 0
    monkeypatch.setenv("DCRON_CONTEXT", "two")
    assert dcron("job", "list").exit_code == 0
    assert asked(served) == [0, 2]


def test_a_server_named_by_hand_wins(dcron, served, write_contexts):
    write_contexts(two_contexts(served))
    assert dcron("job", "list", "--server", served[1].address).exit_code == 0
    assert asked(served) == [0, 1]


def test_the_machines_file_serves_those_without_one_of_their_own(dcron, served, write_contexts):
    write_contexts(two_contexts(served), folder="etc")
    assert dcron("job", "list").exit_code == 0
    assert asked(served) == [1, 0]


def test_a_context_has_its_certificate_beside_its_file(dcron, make_node, write_contexts, tmp_path):
    authority = Authority(tmp_path / "config/dcron")
    authority.issue("alice")
    node = make_node(authority.issue("n1"))
    node.on("ListJobs", pb.ListJobsResponse())
    write_contexts(
        f'current = "one"\n[contexts.one]\nserver = "{node.address}"\n'
        'ca = "ca.pem"\ncert = "alice.pem"\nkey = "alice-key.pem"\n'
    )
    assert dcron("job", "list").exit_code == 0


def test_a_server_named_by_hand_gets_no_certificate_of_the_current_context(
    dcron, served, write_contexts, tmp_path
):
    write_contexts('current = "one"\n[contexts.one]\nca = "a"\ncert = "b"\nkey = "c"\n')
    assert dcron("job", "list", "--server", served[0].address).exit_code == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('current = "three"\n[contexts.one]\n', "context 'three' is not in {path}; there are: one"),
        ('current = "one"\n[contexts.one]\nservers = "a"\n', "unknown 'servers'; known are server, ca"),
        ('current = "one"\n[contexts.one]\nserver = "a:b"\n', "'a:b' is not host:port"),
        ('current = "one"\n[contexts.one]\nserver = 5\n', "expected texts"),
        ('current = "one"\n[contexts.one]\ncert = "b"\n', "--ca, --key are missing"),
        ("current = \n", "{path} is not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(dcron, write_contexts, text, words):
    path = write_contexts(text)
    done = dcron("job", "list")
    assert done.exit_code == 2
    assert words.format(path=path) in done.err
    assert done.err.count("\n") == 1


def test_a_context_without_a_file_is_named_with_where_it_would_be(dcron, tmp_path):
    done = dcron("--context", "one", "job", "list")
    assert done.exit_code == 2
    assert f"{tmp_path}/config/dcron/client.toml" in done.err
