"""What the role dcron_node leaves on a host, and that scripts outlive the daemon."""

import json
import time

import pytest

SCRIPT_SECONDS = 6
WAIT_SECONDS = 30.0


def wait_for(what, condition):
    """The first true value of a condition; a failure that says what did not come."""
    until = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {WAIT_SECONDS:g} s in vain for {what}"
        time.sleep(0.2)
    return value


def dcron(host, arguments):
    return host.check_output(f"dcron {arguments}")


@pytest.fixture(scope="module")
def version(host):
    return dcron(host, "--version").split()[-1]


@pytest.fixture(scope="module")
def unit(host):
    lines = host.check_output("systemctl show --all dcron.service").splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def test_the_node_serves_and_starts_at_boot(host):
    service = host.service("dcron")
    assert service.is_running
    assert service.is_enabled
    assert "leading" in dcron(host, "node list")


def test_it_listens_where_it_was_told_and_nowhere_else(host):
    listening = host.check_output("ss --no-header --listening --tcp --numeric --processes").splitlines()
    # gRPC listens by IPv6's form of an IPv4 address.
    assert [line.split()[3] for line in listening if "dcron" in line] == ["[::ffff:127.0.0.1]:7420"]


def test_a_release_is_installed_and_current(host, version):
    current = host.file("/opt/dcron/current")
    assert current.is_symlink
    assert current.linked_to == f"/opt/dcron/releases/{version}"
    assert host.file(f"/opt/dcron/releases/{version}/.origin").exists
    assert not host.file(f"/opt/dcron/releases/{version}.wheels").exists


@pytest.mark.parametrize(
    ("path", "owner", "group", "mode"),
    [
        ("/etc/dcron", "root", "root", 0o755),
        ("/etc/dcron/node.toml", "root", "dcron", 0o640),
        ("/etc/dcron/credentials", "root", "root", 0o700),
        ("/var/lib/dcron", "dcron", "dcron", 0o750),
        ("/var/lib/dcron/spool", "dcron", "dcron", 0o750),
        ("/etc/systemd/system/dcron.service", "root", "root", 0o644),
    ],
)
def test_files_belong_to_whom_they_should(host, path, owner, group, mode):
    file = host.file(path)
    assert (file.user, file.group, file.mode) == (owner, group, mode)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("User", "dcron"),
        ("KillMode", "process"),
        ("Delegate", "yes"),
        ("OOMPolicy", "continue"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("ProtectSystem", "full"),
        ("ProtectHome", "read-only"),
        ("PrivateDevices", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("LockPersonality", "yes"),
        ("RestrictRealtime", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_NETLINK AF_UNIX"),
        # These would break scripts: see docs/decisions/0015-hardening-and-scripts.md.
        ("PrivateTmp", "no"),
        ("ProtectControlGroups", "no"),
        ("MemoryDenyWriteExecute", "no"),
        ("RestrictSUIDSGID", "no"),
        ("UMask", "0022"),
    ],
)
def test_the_unit_is_hardened_as_far_as_scripts_allow(unit, name, value):
    found = unit[name]
    assert (" ".join(sorted(found.split())) if name == "RestrictAddressFamilies" else found) == value


def test_the_log_is_json_in_the_journal(host):
    lines = host.check_output("journalctl --unit dcron --output cat").splitlines()
    actions = [json.loads(line)["action"] for line in lines if line.startswith("{")]
    assert "serve" in actions


def register(host, script):
    """A job that runs when asked; its name."""
    name = f"test-{time.monotonic_ns()}"
    command = f"dcron job create {name} --schedule '0 0 1 1 *' --interpreter sh --timeout 60s -"
    host.check_output(f"echo '{script}' | {command}")
    return name


def test_a_script_goes_on_while_the_service_restarts(host):
    name = register(host, f"echo begun; sleep {SCRIPT_SECONDS}; echo done as $(id -un)")
    execution = dcron(host, f"job run {name}")
    find_script = f"pgrep --full --exact 'sleep {SCRIPT_SECONDS}'"
    find_daemon = "systemctl show --property MainPID --value dcron"
    script = wait_for("the script", lambda: host.run(find_script).stdout)
    daemon = host.check_output(find_daemon)

    host.check_output("systemctl restart dcron")

    assert host.check_output(find_daemon) != daemon
    assert host.run(find_script).stdout == script
    wait_for("the node", lambda: host.run("dcron node list").stdout)
    log = host.run(f"dcron execution log --follow {execution}")
    assert (log.stdout.split("\n")[:2], log.rc) == (["begun", "done as dcron"], 0)


def test_a_script_has_the_limits_of_the_unit(host):
    name = register(host, "grep NoNewPrivs /proc/self/status; ulimit -n; touch /usr/mine || echo /usr: $?")
    log = host.run(f'dcron execution log --follow "$(dcron job run {name})"').stdout
    assert log.splitlines()[0].split() == ["NoNewPrivs:", "1"]
    assert "16384" in log
    assert "Read-only file system" in log


def test_no_secret_is_where_everybody_reads(host):
    environment = host.check_output("systemctl show --property Environment dcron")
    assert environment == "Environment=LANG=C.UTF-8"
