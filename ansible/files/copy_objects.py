"""copy_objects.py backup|restore URL FOLDER [CA]: scripts and logs, between dcron's store and a folder.

Runs with the Python of a release; boto3 finds the credentials. What is there with the same size is left.
"""

import sys
from pathlib import Path
from typing import Any

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import ClientError

from dcron.adapters.s3_url import parse_s3_url


def bucket_of(url: str, ca: str) -> Any:
    """The bucket that a URL names."""
    settings = parse_s3_url(url)
    style = {None: "auto", True: "path", False: "virtual"}[settings.path_style]
    resource = Session().resource(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region or "us-east-1",
        verify=ca or None,
        config=Config(s3={"addressing_style": style}),
    )
    return resource.Bucket(settings.bucket)


def backup(bucket: Any, folder: Path) -> int:
    """Copy what the folder does not have yet; how many objects that was."""
    copied = 0
    for each in bucket.objects.all():
        path = folder / each.key
        if not path.exists() or path.stat().st_size != each.size:
            path.parent.mkdir(parents=True, exist_ok=True)
            bucket.download_file(each.key, str(path))
            copied += 1
    return copied


def restore(bucket: Any, folder: Path) -> int:
    """Copy what the bucket does not have yet, which is made if it is missing; how many objects that was."""
    try:
        bucket.meta.client.head_bucket(Bucket=bucket.name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
            raise
        bucket.create()
    there = {each.key: each.size for each in bucket.objects.all()}
    copied = 0
    for path in sorted(folder.rglob("*")):
        key = str(path.relative_to(folder))
        if path.is_file() and there.get(key) != path.stat().st_size:
            bucket.upload_file(str(path), key)
            copied += 1
    return copied


def main(verb: str, url: str, folder: str, ca: str = "") -> None:
    """Do what the verb says."""
    act = {"backup": backup, "restore": restore}[verb]
    print(f"{act(bucket_of(url, ca), Path(folder))} objects copied")


if __name__ == "__main__":
    main(*sys.argv[1:])
