"""Makes dcron's bucket and user in MinIO, as JSON on standard input says. Prints what it changed, no more."""

import json
import os
import sys
import urllib.parse
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin

LIFECYCLE_ID = "dcron-logs"


def s3(wanted: dict, access_key: str, secret_key: str) -> Any:
    """A client of the store, as whom the keys are of."""
    return boto3.client(
        "s3",
        endpoint_url=wanted["url"],
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        verify=wanted["ca"] or None,
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )


def code_of(error: botocore.exceptions.ClientError) -> str:
    """What S3 calls an error."""
    return error.response["Error"]["Code"]


def ensure_bucket(root: Any, bucket: str) -> None:
    """Make the bucket if it is missing."""
    try:
        root.head_bucket(Bucket=bucket)
    except botocore.exceptions.ClientError as error:
        if code_of(error) not in {"404", "NoSuchBucket"}:
            raise
        root.create_bucket(Bucket=bucket)
        print(f"made bucket {bucket}")


def ensure_lifecycle(root: Any, bucket: str, days: int) -> None:
    """Have old logs removed, or not."""
    try:
        found = root.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except botocore.exceptions.ClientError as error:
        if code_of(error) != "NoSuchLifecycleConfiguration":
            raise
        found = []
    ours = [rule for rule in found if rule["ID"] == LIFECYCLE_ID]
    if [rule["Expiration"]["Days"] for rule in ours] == ([days] if days else []):
        return
    rules = [rule for rule in found if rule["ID"] != LIFECYCLE_ID]
    if days:
        filter_ = {"Prefix": "logs/"}
        rules.append(
            {"ID": LIFECYCLE_ID, "Status": "Enabled", "Filter": filter_, "Expiration": {"Days": days}}
        )
    if rules:
        root.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    else:
        root.delete_bucket_lifecycle(Bucket=bucket)
    print(f"logs end after {days} days" if days else "logs stay")


def policy_of(bucket: str) -> dict:
    """Rights on one bucket and what is in it."""
    place = f"arn:aws:s3:::{bucket}"
    on_bucket = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
    on_objects = [
        "s3:GetObject", "s3:PutObject", "s3:DeleteObject",
        "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
    ]  # fmt: skip
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": sorted(on_bucket), "Resource": [place]},
            {"Effect": "Allow", "Action": sorted(on_objects), "Resource": [f"{place}/*"]},
        ],
    }


def ensure_user(admin: MinioAdmin, wanted: dict) -> None:
    """Make the user, or give it this secret, unless it gets at the bucket already."""
    try:
        s3(wanted, wanted["access_key"], wanted["secret_key"]).list_objects_v2(
            Bucket=wanted["bucket"], MaxKeys=1
        )
    except botocore.exceptions.ClientError as error:
        if code_of(error) not in {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
            raise
        name = f"dcron-{wanted['bucket']}"
        admin.policy_add(name, policy=policy_of(wanted["bucket"]))
        admin.user_add(wanted["access_key"], wanted["secret_key"])
        admin.policy_set(name, user=wanted["access_key"])
        print("made the user")


def main() -> None:
    """Do what standard input says."""
    wanted = json.load(sys.stdin)
    if wanted["ca"]:
        os.environ["SSL_CERT_FILE"] = wanted["ca"]
    address = urllib.parse.urlsplit(wanted["url"])
    root = s3(wanted, wanted["root_user"], wanted["root_password"])
    ensure_bucket(root, wanted["bucket"])
    ensure_lifecycle(root, wanted["bucket"], int(wanted["log_days"]))
    provider = StaticProvider(wanted["root_user"], wanted["root_password"])
    admin = MinioAdmin(endpoint=address.netloc, credentials=provider, secure=address.scheme == "https")
    try:
        ensure_user(admin, wanted)
    except MinioAdminException as error:
        sys.exit(f"MinIO refused: {error}")


if __name__ == "__main__":
    main()
