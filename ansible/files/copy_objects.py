"""copy_objects.py backup|restore URL FOLDER [CA]: scripts and logs, between dcron's store and a folder.
copy_objects.py move OLD_TOML NEW_URL [CA]: from the store that a node's settings name to another one.

Runs with the Python of a release; boto3 finds the credentials, for `move` of the profiles `old` and `new`.
What is there with the same size is left: objects never change. Prints how many it has copied.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import ClientError

from dcron.adapters.s3.url import parse_s3_url


def bucket_of(url: str, ca: str, profile: str | None = None) -> Any:
    """The bucket that a URL names."""
    settings = parse_s3_url(url)
    style = {None: "auto", True: "path", False: "virtual"}[settings.path_style]
    resource = Session(profile_name=profile).resource(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region or "us-east-1",
        verify=ca or None,
        config=Config(s3={"addressing_style": style}),
    )
    return resource.Bucket(settings.bucket)


def ensure(bucket: Any) -> None:
    """Make the bucket if it is missing."""
    try:
        bucket.meta.client.head_bucket(Bucket=bucket.name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
            raise
        bucket.create()


def sizes(bucket: Any) -> dict[str, int]:
    """How many bytes each object has, by its key."""
    return {each.key: each.size for each in bucket.objects.all()}


def backup(bucket: Any, folder: Path) -> int:
    """Copy what the folder does not have yet; how many objects that was."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = 0
    for key, size in sizes(bucket).items():
        path = folder / key
        if not path.exists() or path.stat().st_size != size:
            path.parent.mkdir(parents=True, exist_ok=True)
            bucket.download_file(key, str(path))
            copied += 1
    return copied


def restore(bucket: Any, folder: Path) -> int:
    """Copy what the bucket does not have yet; how many objects that was."""
    ensure(bucket)
    there = sizes(bucket)
    copied = 0
    for path in sorted(folder.rglob("*")):
        key = str(path.relative_to(folder))
        if path.is_file() and there.get(key) != path.stat().st_size:
            bucket.upload_file(str(path), key)
            copied += 1
    return copied


def move(settings: Path, url: str, ca: str) -> int:
    """Copy what the new store does not have yet, and compare; how many objects that was."""
    node = tomllib.loads(settings.read_text(encoding="utf-8"))
    old = bucket_of(node["objects"], node.get("objects_ca", ""), "old")
    new = bucket_of(url, ca, "new")
    ensure(new)
    there, wanted = sizes(new), sizes(old)
    missing = [key for key, size in wanted.items() if there.get(key) != size]
    for key in missing:
        new.upload_fileobj(old.Object(key).get()["Body"], key)
    there = sizes(new)
    if wrong := [key for key, size in wanted.items() if there.get(key) != size]:
        sys.exit(f"{len(wrong)} objects are not the same in the new store, as {wrong[0]}")
    return len(missing)


def main(verb: str, place: str, other: str, ca: str = "") -> None:
    """Do what the verb says."""
    if verb == "move":
        copied = move(Path(place), other, ca)
    else:
        act = {"backup": backup, "restore": restore}[verb]
        copied = act(bucket_of(place, ca), Path(other))
    print(f"{copied} objects copied")


if __name__ == "__main__":
    main(*sys.argv[1:])
