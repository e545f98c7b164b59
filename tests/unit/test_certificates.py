"""Certificates in files: what is taken, what is refused, and what happens when they are replaced."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from dcron.certificates import CredentialWatch, is_of_ca, read_credentials
from dcron.credentials import CertificateFiles
from dcron.domain.errors import SetupError
from tests.certificates import Authority, write_whole


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_a_certificate_tells_its_name_and_units(authority):
    credentials = read_credentials(authority.issue("a,OU=dcron-admin", "dcron-viewer", "sales"))
    assert credentials.identity.name == "a,OU=dcron-admin"
    assert sorted(credentials.identity.units) == ["dcron-viewer", "sales"]


def test_the_key_is_in_no_representation(authority):
    credentials = read_credentials(authority.issue("n1"))
    assert "PRIVATE" not in repr(credentials)


@pytest.mark.parametrize("role", ["certificate", "key", "ca"])
def test_a_file_that_cannot_be_used_is_named(authority, role):
    files = authority.issue("n1")
    path = getattr(files, role)
    content = path.read_bytes()
    for broken in (b"", content[: len(content) // 2], b"x" * 2_000_000):
        path.write_bytes(broken)
        with pytest.raises(SetupError, match=str(path)):
            read_credentials(files)
    path.unlink()
    with pytest.raises(SetupError, match=f"{path} cannot be read: No such file"):
        read_credentials(files)


def test_a_key_of_another_certificate_is_refused(authority):
    files, other = authority.issue("n1"), authority.issue("n2")
    mixed = CertificateFiles(files.certificate, other.key, files.ca)
    with pytest.raises(SetupError, match=f"{other.key} does not belong to"):
        read_credentials(mixed)


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        (rsa.generate_private_key(65537, 2048), True),
        (ec.generate_private_key(ec.SECP384R1()), True),
        (ec.generate_private_key(ec.SECP521R1()), False),
        (ed25519.Ed25519PrivateKey.generate(), False),
    ],
)
def test_a_key_that_grpc_does_not_take_is_refused_before_it_does_harm(authority, key, taken):
    files = authority.issue("n1", key=key)
    if taken:
        read_credentials(files)
        return
    with pytest.raises(SetupError, match=f"{files.key} is of a kind that gRPC does not take"):
        read_credentials(files)


def test_a_key_with_a_passphrase_is_refused(authority):
    files = authority.issue("n1")
    key = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"correct-horse"))
    )
    with pytest.raises(SetupError, match=f"key {files.key} has a passphrase"):
        read_credentials(files)


@pytest.mark.parametrize("chained", [True, False])
def test_whether_it_is_of_a_known_ca_is_told(authority, tmp_path, chained):
    files = authority.issue("n1")
    other = Authority(tmp_path / "other", "other CA")
    ca = authority.file.read_bytes() + other.file.read_bytes()
    files.ca.write_bytes(ca if chained else other.file.read_bytes())
    assert is_of_ca(read_credentials(files)) is chained


def test_what_is_not_replaced_is_not_read_again(authority):
    watch = CredentialWatch(authority.issue("n1"))
    assert watch.current() is watch.current()


def test_replaced_files_are_taken_up_and_said(authority):
    files = authority.issue("n1")
    watch = CredentialWatch(files)
    authority.issue("n1-renewed", into=files)
    with capture_logs() as logs:
        assert watch.current().identity.name == "n1-renewed"
        assert watch.current().identity.name == "n1-renewed"
    assert [entry["event"] for entry in logs] == ["took up new certificates"]


@pytest.mark.parametrize("break_it", ["half", "gone", "mismatch"])
def test_a_broken_pair_keeps_the_old_one_says_so_once_and_is_mended_by_the_next(authority, break_it):
    files = authority.issue("n1")
    watch = CredentialWatch(files)
    before = watch.current()
    new = authority.issue("n1-renewed")
    certificate, key = new.certificate.read_bytes(), new.key.read_bytes()

    if break_it == "half":
        files.certificate.write_bytes(certificate[: len(certificate) // 2])
    elif break_it == "gone":
        files.certificate.unlink()
    else:
        write_whole(files.certificate, certificate)
    with capture_logs() as logs:
        assert watch.current() is before
        assert watch.current() is before
    [line] = logs
    assert (line["log_level"], line["event"]) == ("warning", "keeping the certificates read before")
    assert str(files.certificate) in line["error"]
    assert "BEGIN" not in line["error"]

    write_whole(files.certificate, certificate)
    write_whole(files.key, key)
    assert watch.current().certificate == certificate
