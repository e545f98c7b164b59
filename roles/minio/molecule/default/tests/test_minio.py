"""What the role minio leaves on hosts. Where there is no MinIO, that is said, and nothing is claimed."""

import json
import os
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import pytest
import testinfra
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin

PROGRAM = Path(os.environ["MOLECULE_REPOSITORY"]) / ".cache/ansible/minio"
INVENTORY = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory/hosts.yml"
CA = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pki/ca.pem"
needs_minio = pytest.mark.skipif(
    not PROGRAM.exists(), reason="there is no MinIO: set MINIO_BINARY, or install Go"
)
SECRET = "for-this-test-alone"
ALONE = "http://172.30.86.11:9000"
DISTRIBUTED = ["https://172.30.86.12:9000", "https://172.30.86.13:9000"]
both = pytest.mark.parametrize("url", [ALONE, DISTRIBUTED[0]], ids=["alone", "distributed"])


def s3(url, access_key, secret_key=SECRET, ca=CA):
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        verify=str(ca) if ca and url.startswith("https") else None,
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )


@pytest.fixture(scope="module")
def another_bucket():
    """One that is not dcron's, with an object in it, in each store."""
    for url in (ALONE, DISTRIBUTED[0]):
        root = s3(url, "root")
        if "other" not in {each["Name"] for each in root.list_buckets()["Buckets"]}:
            root.create_bucket(Bucket="other")
        root.put_object(Bucket="other", Key="secret", Body=b"of somebody else")


def test_what_it_refused_left_nothing(host):
    assert PROGRAM.exists() or not host.file("/usr/local/bin/minio").exists


@needs_minio
def test_it_runs_and_starts_at_boot(host):
    service = host.service("minio")
    assert service.is_running
    assert service.is_enabled


@needs_minio
def test_it_listens_on_its_address_and_loopback_and_nowhere_else(host):
    lines = host.check_output("ss --no-header --listening --tcp --numeric --processes").splitlines()
    places = {line.split()[3] for line in lines if '"minio"' in line}
    number = host.check_output("hostname")[-1]
    assert places - {"127.0.0.1:9000", "[::1]:9000"} == {f"172.30.86.1{number}:9000"}


@needs_minio
@both
def test_dcrons_user_writes_reads_lists_and_deletes_in_its_bucket(url):
    dcron = s3(url, "dcron")
    dcron.put_object(Bucket="dcron", Key="scripts/test", Body=b"content")
    assert dcron.get_object(Bucket="dcron", Key="scripts/test")["Body"].read() == b"content"
    assert [each["Key"] for each in dcron.list_objects_v2(Bucket="dcron")["Contents"]] == ["scripts/test"]
    dcron.delete_object(Bucket="dcron", Key="scripts/test")
    assert "Contents" not in dcron.list_objects_v2(Bucket="dcron")


@needs_minio
@both
@pytest.mark.usefixtures("another_bucket")
@pytest.mark.parametrize(
    ("act", "given"),
    [
        ("create_bucket", {"Bucket": "mine"}),
        ("delete_bucket", {"Bucket": "dcron"}),
        ("list_objects_v2", {"Bucket": "other"}),
        ("get_object", {"Bucket": "other", "Key": "secret"}),
        ("put_object", {"Bucket": "other", "Key": "mine", "Body": b""}),
        ("get_bucket_lifecycle_configuration", {"Bucket": "dcron"}),
        ("delete_bucket_lifecycle", {"Bucket": "dcron"}),
        ("get_bucket_policy", {"Bucket": "dcron"}),
    ],
)
def test_dcrons_user_may_do_nothing_else(url, act, given):
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        getattr(s3(url, "dcron"), act)(**given)


@needs_minio
@both
def test_a_wrong_secret_is_refused(url):
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        s3(url, "dcron", "another-secret").list_objects_v2(Bucket="dcron")


@needs_minio
@both
def test_old_logs_end(url):
    rules = s3(url, "root").get_bucket_lifecycle_configuration(Bucket="dcron")["Rules"]
    assert [(rule["Filter"]["Prefix"], rule["Expiration"]["Days"]) for rule in rules] == [("logs/", 30)]


@needs_minio
def test_who_does_not_know_the_ca_does_not_speak_to_it():
    with pytest.raises(botocore.exceptions.SSLError):
        s3(DISTRIBUTED[0], "dcron", ca=None).list_objects_v2(Bucket="dcron")


@needs_minio
def test_all_drives_of_all_hosts_are_one_store(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CA))
    admin = MinioAdmin(endpoint="172.30.86.12:9000", credentials=StaticProvider("root", SECRET))
    servers = json.loads(admin.info())["servers"]
    drives = {drive["endpoint"]: drive["state"] for server in servers for drive in server["drives"]}
    expected = {f"{url}/srv/drive{number}/minio" for url in DISTRIBUTED for number in (1, 2)}
    assert drives == dict.fromkeys(expected, "ok")


@needs_minio
def test_what_one_host_has_taken_is_read_while_it_is_down():
    first = testinfra.get_host("ansible://minio-2", ansible_inventory=str(INVENTORY))
    s3(DISTRIBUTED[0], "dcron").put_object(Bucket="dcron", Key="logs/kept", Body=b"on four drives")
    first.check_output("systemctl stop minio")
    try:
        read = s3(DISTRIBUTED[1], "dcron").get_object(Bucket="dcron", Key="logs/kept")
        assert read["Body"].read() == b"on four drives"
    finally:
        first.check_output("systemctl start minio")


@needs_minio
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("User", "minio"),
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
    assert host.check_output(f"systemctl show --property {name} --value minio") == value


@needs_minio
@pytest.mark.parametrize("name", ["minio-2", "minio-3"])
def test_its_key_is_for_it_alone(name):
    file = testinfra.get_host(f"ansible://{name}", ansible_inventory=str(INVENTORY)).file(
        "/etc/minio-tls/key.pem"
    )
    assert (file.user, file.mode) == ("minio", 0o600)


@needs_minio
def test_secrets_are_in_a_file_for_root_alone(host):
    file = host.file("/etc/minio/environment")
    assert (file.user, file.mode) == ("root", 0o600)
    assert SECRET not in host.check_output("systemctl cat minio")
