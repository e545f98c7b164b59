"""The `s3://` URL that names a bucket and how to reach it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from dcron.domain.errors import SetupError

__all__ = ["S3Settings", "parse_s3_url"]

FORM = "s3://bucket?endpoint=https://host:port&region=name&path_style=true"
PARAMETERS = ("endpoint", "public_endpoint", "region", "path_style")
BUCKET_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
REGION_PATTERN = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Bucket and the way to reach it; None leaves a choice to boto3.

    `public_endpoint` is where clients reach the store, if not where nodes do. `path_style` puts the
    bucket into the path (True) or the host name (False)."""

    bucket: str
    endpoint: str | None = None
    public_endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None


def parse_s3_url(url: str) -> S3Settings:
    """Settings from `s3://bucket?endpoint=…&region=…&path_style=…&public_endpoint=…`.

    Raises SetupError, which never repeats a value that may be a secret, for whatever else it holds."""
    parts = _split(url, "object store URL")
    if parts.scheme != "s3":
        raise SetupError(f"object store URL: write {FORM}")
    if "@" in parts.netloc:
        raise SetupError(
            "object store URL: must not hold credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            f" in the environment, or a profile, and write {FORM}"
        )
    if not parts.netloc:
        raise SetupError(f"object store URL: the bucket is missing; write {FORM}")
    if not BUCKET_PATTERN.fullmatch(parts.netloc):
        raise SetupError(
            "object store URL: the bucket's name must be 3 to 63 lower-case letters, digits, dots and hyphens"
        )
    if parts.path not in {"", "/"} or parts.fragment:
        raise SetupError(
            f"object store URL: takes no path after the bucket, which dcron wants whole; write {FORM}"
        )
    given = _parameters(parts.query)
    return S3Settings(
        bucket=parts.netloc,
        endpoint=_endpoint(given, "endpoint"),
        public_endpoint=_endpoint(given, "public_endpoint"),
        region=_region(given),
        path_style=_flag(given, "path_style"),
    )


def _split(url: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # The reason may quote the URL.
        raise SetupError(f"{what}: cannot be read; write {FORM}") from None
    return parts


def _parameters(query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in PARAMETERS:
            raise SetupError(
                f"object store URL: unknown parameter {name!r}; known are {', '.join(PARAMETERS)}"
            )
        if name in given:
            raise SetupError(f"object store URL: parameter {name} is given twice; keep one")
        given[name] = value
    return given


def _endpoint(given: dict[str, str], name: str) -> str | None:
    if name not in given:
        return None
    parts = _split(given[name], f"object store URL: parameter {name}")
    plain = parts.hostname and parts.path in {"", "/"} and not parts.query and not parts.fragment
    if parts.scheme not in {"http", "https"} or not plain or "@" in parts.netloc:
        raise SetupError(
            f"object store URL: parameter {name} must be http://host:port or https://host:port,"
            " without path or credentials"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _region(given: dict[str, str]) -> str | None:
    region = given.get("region")
    if region is not None and not REGION_PATTERN.fullmatch(region):
        raise SetupError(
            "object store URL: parameter region must be letters, digits and hyphens, as eu-central-1"
        )
    return region


def _flag(given: dict[str, str], name: str) -> bool | None:
    value = given.get(name)
    if value is None:
        return None
    if value not in {"true", "false"}:
        raise SetupError(f"object store URL: parameter {name} must be true or false")
    return value == "true"
