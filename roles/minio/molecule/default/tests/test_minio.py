"""What the role minio leaves on a host. Where there is no MinIO, that is said, and nothing is claimed."""

import os
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import pytest

PROGRAM = Path(os.environ["MOLECULE_REPOSITORY"]) / ".cache/ansible/minio"
needs_minio = pytest.mark.skipif(
    not PROGRAM.exists(), reason="there is no MinIO: set MINIO_BINARY, or install Go"
)
URL = "http://172.30.86.11:9000"


def s3(access_key):
    return boto3.client(
        "s3",
        endpoint_url=URL,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key="for-this-test-alone",
        config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )


def test_what_it_refused_left_nothing(host):
    assert PROGRAM.exists() or not host.file("/usr/local/bin/minio").exists


@needs_minio
def test_it_runs_and_starts_at_boot(host):
    service = host.service("minio")
    assert service.is_running
    assert service.is_enabled


@needs_minio
def test_dcrons_user_has_its_bucket_and_nothing_else():
    dcron = s3("dcron")
    dcron.put_object(Bucket="dcron", Key="scripts/test", Body=b"content")
    assert dcron.get_object(Bucket="dcron", Key="scripts/test")["Body"].read() == b"content"
    dcron.delete_object(Bucket="dcron", Key="scripts/test")
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        dcron.create_bucket(Bucket="other")


@needs_minio
def test_old_logs_end():
    rules = s3("root").get_bucket_lifecycle_configuration(Bucket="dcron")["Rules"]
    assert [(rule["Filter"]["Prefix"], rule["Expiration"]["Days"]) for rule in rules] == [("logs/", 30)]


@needs_minio
@pytest.mark.parametrize(
    ("name", "value"),
    [("User", "minio"), ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("PrivateTmp", "yes")],
)
def test_the_unit_is_hardened(host, name, value):
    assert host.check_output(f"systemctl show --property {name} --value minio") == value
