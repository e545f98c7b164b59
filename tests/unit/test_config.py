"""A wrong setting is named with what is allowed, and no secret is ever shown."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dcron.config import DEFAULT_LISTEN, load_settings
from dcron.domain.errors import SetupError

SECRET = "s3cr3t"
REQUIRED = {
    "DCRON_STORE": f"couchdb://user:{SECRET}@localhost:5984/dcron",
    "DCRON_OBJECTS": f"s3://bucket?secret={SECRET}",
    "DCRON_SPOOL": "/var/spool/dcron",
    "DCRON_NODE_ID": "n1",
}


def load(**environment: str):
    return load_settings(None, REQUIRED | {f"DCRON_{name}": value for name, value in environment.items()})


def load_file(tmp_path: Path, text: str, **environment: str):
    path = tmp_path / "dcron.toml"
    path.write_text(text)
    return load_settings(path, REQUIRED | environment)


def refused(**environment: str) -> str:
    with pytest.raises(SetupError) as caught:
        load(**environment)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_what_is_required_is_enough():
    settings = load()
    assert (settings.slots, settings.lease_seconds, settings.listen) == (32, 6.0, DEFAULT_LISTEN)
    assert settings.advertise == DEFAULT_LISTEN
    assert settings.spool == Path("/var/spool/dcron")
    assert settings.labels == {}


@pytest.mark.parametrize("name", ["STORE", "OBJECTS", "SPOOL"])
def test_what_is_missing_is_named_with_its_variable(name):
    assert f"DCRON_{name}" in refused(**{name: ""})


def test_the_environment_wins_over_the_file(tmp_path):
    text = 'slots = 3\nlease_seconds = 9\nlabels = {zone = "a"}\n'
    settings = load_file(tmp_path, text, DCRON_SLOTS="5")
    assert (settings.slots, settings.lease_seconds, settings.labels) == (5, 9.0, {"zone": "a"})


def test_a_secret_is_not_in_the_text_of_the_settings():
    assert SECRET not in repr(load())


@pytest.mark.parametrize("value", ["0", "-1", "10001", "many", "", "1.5", "²"])
def test_slots_must_be_a_whole_number_in_range(value):
    assert refused(SLOTS=value) == "slots: expected a whole number from 1 to 10000"


@pytest.mark.parametrize("value", ["3.7", "true", "[1]", "nan"])
def test_a_number_in_the_file_is_not_bent_into_a_whole_one(tmp_path, value):
    with pytest.raises(SetupError, match="slots: expected a whole number"):
        load_file(tmp_path, f"slots = {value}\n")


@pytest.mark.parametrize("value", ["0.5", "601", "nan", "inf", "soon", ""])
def test_the_lease_must_be_in_range(value):
    assert refused(LEASE_SECONDS=value) == "lease_seconds: expected a number from 1 to 600"


def test_a_lease_is_no_truth_value(tmp_path):
    with pytest.raises(SetupError, match="lease_seconds"):
        load_file(tmp_path, "lease_seconds = true\n")


@pytest.mark.parametrize("name", ["LISTEN", "ADVERTISE"])
@pytest.mark.parametrize("value", ["localhost", "localhost:", "localhost:x", "h:65536", "h:0", "h:-1", "h:²"])
def test_an_address_must_be_host_and_port(name, value):
    assert "is not host:port" in refused(**{name: value})


@pytest.mark.parametrize("value", [":7420", "0.0.0.0:7420", "[::]:7420"])
def test_what_listens_everywhere_advertises_a_name_and_never_everywhere(value):
    assert load(LISTEN=value, INSECURE="true").advertise == f"{socket.gethostname()}:7420"
    assert "no address at which other nodes reach" in refused(ADVERTISE=value)


@pytest.mark.parametrize("value", ["10.0.0.1:7420", ":7420", "0.0.0.0:7420", "[::]:7420", "node1:7420"])
def test_nobody_listens_for_other_machines_without_tls_or_being_told(value):
    message = refused(LISTEN=value)
    assert message.startswith(f"listen: {value} ")
    assert "tls_certificate" in message
    assert "--insecure" in message
    assert load(LISTEN=value, INSECURE="true").tls is None
    assert load(LISTEN=value, TLS_CERTIFICATE="c", TLS_KEY="k", TLS_CA="a").tls is not None


@pytest.mark.parametrize("value", ["127.0.0.1:7420", "127.1.2.3:7420", "[::1]:7420", "localhost:7420"])
def test_on_loopback_no_tls_is_needed(value):
    settings = load(LISTEN=value)
    assert not settings.open_to_others
    assert settings.tls is None


@pytest.mark.parametrize("name", ["TLS_CERTIFICATE", "TLS_KEY", "TLS_CA"])
def test_tls_needs_all_its_files(name):
    whole = {"TLS_CERTIFICATE": "c", "TLS_KEY": "k", "TLS_CA": "a"}
    assert refused(**{**whole, name: ""}).endswith(f"{name.lower()} is not set")


def test_insecure_contradicts_tls():
    assert "contradicts" in refused(INSECURE="yes", TLS_CERTIFICATE="c", TLS_KEY="k", TLS_CA="a")


def test_insecure_is_a_truth_value(tmp_path):
    assert load_file(tmp_path, "insecure = true\n").insecure
    assert not load(INSECURE="no").insecure
    assert refused(INSECURE="perhaps") == "insecure: expected true or false"
    with pytest.raises(SetupError, match="insecure: expected true or false"):
        load_file(tmp_path, "insecure = 1\n")


def test_labels_are_pairs():
    assert load(LABELS="zone=a, disk = ssd ,").labels == {"zone": "a", "disk": "ssd"}
    assert load(LABELS="").labels == {}


@pytest.mark.parametrize("value", ["zone", "zone=a,ssd"])
def test_a_label_without_a_value_is_refused(value):
    assert "expected key=value" in refused(LABELS=value)


@pytest.mark.parametrize("value", ["=a", "zo ne=a", "zone=a b", f"{'k' * 64}=v"])
def test_a_label_that_cannot_be_one_is_refused(value):
    assert refused(LABELS=value).startswith("labels: ")


@pytest.mark.parametrize("value", ["a b", "a:b", "", "x" * 64, "a\n"])
def test_a_node_id_that_cannot_be_one_is_refused(value):
    assert refused(NODE_ID=value).startswith("node_id: ")


@pytest.mark.parametrize("name", ["LOG_FORMAT", "LOG_LEVEL"])
def test_a_choice_names_what_there_is_to_choose(name):
    assert "is not one of" in refused(**{name: "verbose"})
    assert load(LOG_FORMAT="JSON", LOG_LEVEL="Debug").log_format == "json"


def test_an_unknown_setting_in_the_file_is_named_without_its_value(tmp_path):
    with pytest.raises(SetupError, match="unknown setting 'pasword'") as caught:
        load_file(tmp_path, f'pasword = "{SECRET}"\n')
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["slots =", 'store = "x', "store = 'a'\nstore = 'b'"])
def test_a_file_that_is_no_toml_is_named(tmp_path, text):
    with pytest.raises(SetupError, match=r"dcron\.toml is not valid TOML"):
        load_file(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(SetupError, match="No such file"):
        load_settings(tmp_path / "none.toml", REQUIRED)
    with pytest.raises(SetupError, match="Is a directory"):
        load_settings(tmp_path, REQUIRED)
    (tmp_path / "latin.toml").write_bytes(b'node_id = "\xe9"')
    with pytest.raises(SetupError, match="not valid TOML"):
        load_settings(tmp_path / "latin.toml", REQUIRED)


@pytest.mark.parametrize("text", ["store = 5\n", "spool = ['a']\n", "labels = 5\n", "labels = {zone = 1}\n"])
def test_a_value_of_the_wrong_kind_is_refused(tmp_path, text):
    name = text.split()[0]
    path = tmp_path / "dcron.toml"
    path.write_text(text)
    environment = {key: value for key, value in REQUIRED.items() if key != f"DCRON_{name.upper()}"}
    with pytest.raises(SetupError, match=f"{name}: expected"):
        load_settings(path, environment)


def test_the_password_of_the_store_may_be_in_a_file(tmp_path):
    secret = tmp_path / "password"
    secret.write_text("p@ss/w:rd\n")
    settings = load(STORE="couchdb://user@a:5984,b:5984/dcron", STORE_PASSWORD_FILE=str(secret))
    assert settings.store == "couchdb://user:p%40ss%2Fw%3Ard@a:5984,b:5984/dcron"
    assert "p@ss" not in repr(settings)


@pytest.mark.parametrize("url", [f"couchdb://user:{SECRET}@a/dcron", "couchdb://a/dcron", "sqlite:///a.db"])
def test_a_password_file_wants_a_url_with_a_user_and_no_password(tmp_path, url):
    secret = tmp_path / "password"
    secret.write_text("other")
    assert refused(STORE=url, STORE_PASSWORD_FILE=str(secret)).startswith(
        "store_password_file: the store is to"
    )


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8")]
)
def test_a_password_file_has_to_hold_one(tmp_path, content, reason):
    secret = tmp_path / "password"
    secret.write_bytes(content)
    message = refused(STORE="couchdb://user@a/dcron", STORE_PASSWORD_FILE=str(secret))
    assert message == f"store_password_file: {secret} {reason}"


def test_a_password_file_that_is_missing_is_named(tmp_path):
    message = refused(STORE="couchdb://user@a/dcron", STORE_PASSWORD_FILE=str(tmp_path / "none"))
    assert message == f"store_password_file: {tmp_path / 'none'}: No such file or directory"
