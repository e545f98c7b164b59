"""What the role dcron_client leaves on a host that is no node."""

import pytest


def test_a_job_is_registered_run_and_read_from_here(host):
    host.run("dcron job delete from-here --yes")
    create = "dcron job create from-here --interpreter sh --schedule '0 0 1 1 *' --timeout 60s -"
    host.check_output(f"echo 'echo from $DCRON_NODE' | {create}")
    log = host.check_output('dcron execution log --follow "$(dcron job run from-here)"')
    assert log == "from client-node"


def test_its_role_is_the_one_of_its_certificate(host):
    refused = host.run("dcron cluster freeze")
    assert refused.rc != 0
    assert "needs role admin; the certificate of an operator has operator" in refused.stderr


def test_other_users_have_the_command_and_not_the_key(host):
    assert host.file("/etc/dcron/client.toml").mode == 0o644
    assert host.file("/etc/dcron/client/key.pem").mode == 0o600
    assert host.check_output("su nobody -s /bin/sh -c 'dcron --version'").startswith("dcron")


def test_further_contexts_are_known(host):
    assert "192.0.2.1" in host.run("timeout 20 dcron --context nowhere job list").stderr


@pytest.mark.parametrize(
    "path",
    [
        "/usr/share/bash-completion/completions/dcron",
        "/usr/local/share/zsh/site-functions/_dcron",
        "/usr/share/fish/vendor_completions.d/dcron.fish",
    ],
)
def test_shells_complete_it(host, path):
    assert "_DCRON_COMPLETE" in host.file(path).content_string


def test_no_node_runs_here(host):
    assert not host.file("/etc/systemd/system/dcron.service").exists
    assert not host.user("dcron").exists
