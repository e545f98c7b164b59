"""The URLs that name an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcron.adapters.folder import parse_file_url
from dcron.adapters.s3.store import S3Settings, parse_s3_url
from dcron.domain.errors import SetupError


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("s3://bucket", S3Settings("bucket")),
        ("s3://bucket/", S3Settings("bucket")),
        (
            "s3://my.bucket-1?endpoint=http://127.0.0.1:9000&region=eu-west-1&path_style=true",
            S3Settings("my.bucket-1", "http://127.0.0.1:9000", None, "eu-west-1", True),
        ),
        (
            "s3://bucket?endpoint=http%3A%2F%2F%5B%3A%3A1%5D:9000/&public_endpoint=https://s3.example.org&path_style=false",
            S3Settings("bucket", "http://[::1]:9000", "https://s3.example.org", None, False),
        ),
    ],
)
def test_an_s3_url_gives_settings(url: str, settings: S3Settings) -> None:
    assert parse_s3_url(url) == settings


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://", "bucket is missing"),
        ("s3://?endpoint=http://a", "bucket is missing"),
        ("s3:bucket", "bucket is missing"),
        ("http://bucket", "write s3://bucket"),
        ("s3://B_cket", "lower-case"),
        ("s3://ab", "3 to 63"),
        ("s3://bucket/prefix", "takes no path"),
        ("s3://bucket#x", "takes no path"),
        ("s3://bucket?endpont=http://a", "unknown parameter 'endpont'; known are endpoint, "),
        ("s3://bucket?region=a&region=b", "region is given twice"),
        ("s3://bucket?region=", "parameter region must"),
        ("s3://bucket?region=a/b", "parameter region must"),
        ("s3://bucket?path_style=yes", "parameter path_style must be true or false"),
        ("s3://bucket?endpoint=127.0.0.1:9000", "parameter endpoint must be http://host:port"),
        ("s3://bucket?endpoint=ftp://host", "parameter endpoint must be"),
        ("s3://bucket?endpoint=http://", "parameter endpoint must be"),
        ("s3://bucket?endpoint=http://host/path", "without path"),
        ("s3://bucket?endpoint=http://host:port", "parameter endpoint: cannot be read"),
        ("s3://bucket?public_endpoint=host", "parameter public_endpoint must be"),
        ("s3://[bucket", "cannot be read"),
    ],
)
def test_a_wrong_s3_url_is_refused_with_the_remedy(url: str, says: str) -> None:
    with pytest.raises(SetupError) as refusal:
        parse_s3_url(url)
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hunter2@bucket?endpoint=http://host",
        "s3://hunter2@bucket",
        "s3://key:hunter2@bucket:port",
        "s3://key:hunter2@[bucket",
        "s3://bucket?secret_key=hunter2",
        "s3://bucket?endpoint=http://key:hunter2@host",
        "s3://bucket?endpoint=http://key:hunter2@host:port",
        "s3://bucket?region=hunter2!",
    ],
)
def test_a_secret_in_an_s3_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SetupError) as refusal:
        parse_s3_url(url)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_credentials_in_an_s3_url_are_answered_with_where_they_belong() -> None:
    with pytest.raises(SetupError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        parse_s3_url("s3://key:secret@bucket")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///var/lib/dcron", "/var/lib/dcron"),
        ("file:///with%20space%3F", "/with space?"),
        ("file:///", "/"),
    ],
)
def test_a_file_url_names_a_folder(url: str, path: str) -> None:
    assert parse_file_url(url) == Path(path)


@pytest.mark.parametrize(
    "url",
    ["file://relative/path", "file://./x", "file:x", "file:", "/var/lib", "http:///x", "file:///x?mode=1",
     "file:///x#y", "file:///nul%00", ""],
)  # fmt: skip
def test_any_other_file_url_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match="object store URL"):
        parse_file_url(url)
