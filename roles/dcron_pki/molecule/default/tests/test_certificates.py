"""What the role dcron_pki leaves on a host and on the controller."""

import os
from pathlib import Path

import pytest

CA = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pki"
FOLDERS = ["/etc/dcron/tls", "/etc/alice", "/etc/aged", "/etc/couchdb-tls"]


def told(host, folder, *options):
    return host.check_output(f"openssl x509 -noout -in {folder}/certificate.pem {' '.join(options)}")


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_ca_vouches_for_each_certificate(host, folder):
    answer = host.check_output(
        f"openssl verify -x509_strict -CAfile {folder}/ca.pem {folder}/certificate.pem"
    )
    assert answer.endswith(": OK")


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_key_is_that_of_its_certificate(host, folder):
    key = host.check_output(f"openssl pkey -pubout -in {folder}/key.pem")
    assert key == told(host, folder, "-pubkey")


@pytest.mark.parametrize(
    ("folder", "owner", "group"), [("/etc/dcron/tls", "dcron", "dcron"), ("/etc/alice", "root", "root")]
)
def test_only_its_owner_reads_a_key(host, folder, owner, group):
    key, place = host.file(f"{folder}/key.pem"), host.file(folder)
    assert (key.user, key.group, key.mode) == (owner, group, 0o600)
    assert (place.user, place.group, place.mode) == ("root", group, 0o750)


@pytest.mark.parametrize(
    ("folder", "subject"),
    [
        ("/etc/dcron/tls", "CN = node-1, OU = dcron-node"),
        ("/etc/alice", "CN = alice, OU = dcron-viewer"),
        ("/etc/couchdb-tls", "CN = couchdb-1"),
    ],
)
def test_the_subject_names_the_holder_and_its_role(host, folder, subject):
    assert told(host, folder, "-subject") == f"subject={subject}"


def test_a_node_has_its_names_and_is_server_and_client(host):
    text = told(host, "/etc/dcron/tls", "-ext", "subjectAltName,extendedKeyUsage")
    assert "DNS:dcron-pki-1, IP Address:172.30.82.11, IP Address:FD00:0:0:0:0:0:0:1" in text
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text


def test_a_client_is_no_server(host):
    text = told(host, "/etc/alice", "-ext", "extendedKeyUsage")
    assert "Client" in text
    assert "Server" not in text


def test_what_was_about_to_end_was_issued_again_for_the_same_key(host):
    sixty_days = str(60 * 86400)
    assert (
        host.run(f"openssl x509 -noout -in /etc/aged-before/certificate.pem -checkend {sixty_days}").rc == 1
    )
    assert host.run(f"openssl x509 -noout -in /etc/aged/certificate.pem -checkend {sixty_days}").rc == 0
    assert told(host, "/etc/aged-before", "-pubkey") == told(host, "/etc/aged", "-pubkey")


def test_the_cas_key_is_encrypted_and_stays_on_the_controller(host):
    key = CA / "ca-key.pem"
    assert "ENCRYPTED" in key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    assert host.run("find / -xdev -name 'ca-key*'").stdout == ""
