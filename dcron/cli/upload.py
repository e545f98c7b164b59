"""Brings a script into the object store: by the URL that a node gives, else through the node."""

from __future__ import annotations

import hashlib
import re
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from dcron.cli.client import Client
from dcron.cli.failures import CommandFailed, ExitCode
from dcron.cli.subjects import SCRIPT
from dcron.rpc import dcron_pb2 as pb

__all__ = ["STDIN", "ScriptFile", "open_script", "upload_script"]

STDIN = "-"
CHUNK_BYTES = 1024 * 1024
MAX_SCRIPT_BYTES = 1024**3
"""More than any node can be configured to take: nothing endless is copied to this machine's disk."""
PUT_SECONDS = 60.0
"""Silence of the object store after which an upload is given up."""
MAX_ERROR_BYTES = 8 * 1024
_S3_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,60})</Code>")


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """A script's content as it was when it was read, and its address."""

    content: IO[bytes]
    description: pb.Script
    has_interpreter_line: bool

    def chunks(self) -> Iterator[bytes]:
        """The content from its beginning."""
        self.content.seek(0)
        while chunk := self.content.read(CHUNK_BYTES):
            yield chunk


@contextmanager
def open_script(source: str) -> Iterator[ScriptFile]:
    """A copy of a file, or of stdin for STDIN; gone when the `with` ends.

    A copy, so that what is uploaded is what was measured, even when an editor saves in between."""
    with tempfile.TemporaryFile() as content:
        try:
            if source == STDIN:
                _copy(sys.stdin.buffer, content)
            else:
                with Path(source).open("rb") as file:
                    _copy(file, content)
        except OSError as error:
            raise CommandFailed(f"script {source!r}: {error.strerror}") from None
        size_bytes = content.tell()
        if size_bytes == 0:
            raise CommandFailed(
                f"script: {source!r} is empty; give one with at least one byte", ExitCode.USAGE
            )
        if size_bytes > MAX_SCRIPT_BYTES:
            raise CommandFailed(f"script: {source!r} has more than {MAX_SCRIPT_BYTES} bytes", ExitCode.USAGE)
        content.seek(0)
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        content.seek(0)
        name = "stdin" if source == STDIN else Path(source).name
        yield ScriptFile(
            content,
            pb.Script(sha256=digest, size_bytes=size_bytes, file_name=name),
            has_interpreter_line=content.read(2) == b"#!",
        )


def upload_script(client: Client, script: ScriptFile) -> None:
    """Make sure the object store has the script; does nothing when it has it already."""
    wanted = script.description
    request = pb.PrepareUploadRequest(sha256=wanted.sha256, size_bytes=wanted.size_bytes)
    plan = client.read(lambda public: public.PrepareUpload, request, SCRIPT)
    if plan.present:
        return
    if plan.url:
        _put(plan.url, dict(plan.headers), script, client.tls.credentials.ca if client.tls else None)
    else:
        client.upload(lambda: _messages(script))


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while target.tell() <= MAX_SCRIPT_BYTES and (chunk := source.read(CHUNK_BYTES)):
        target.write(chunk)


def _messages(script: ScriptFile) -> Iterator[pb.UploadScriptRequest]:
    sha256 = script.description.sha256
    for chunk in script.chunks():
        yield pb.UploadScriptRequest(sha256=sha256, data=chunk)
        sha256 = ""


def _put(url: str, headers: Mapping[str, str], script: ScriptFile, ca: bytes | None) -> None:
    """Upload by a signed URL, which is a secret while it is valid: messages name its host only.

    The store's certificate may be of one of the machine's CAs or of the nodes' own."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise CommandFailed("the node gave an upload address that is not http:// or https://")
    where = f"object store {parts.hostname}" + (f":{parts.port}" if parts.port else "")
    script.content.seek(0)
    request = urllib.request.Request(url, data=script.content, method="PUT")  # noqa: S310 - checked above
    # Without a length, urllib would send chunks, which S3 refuses.
    request.add_header("Content-Length", str(script.description.size_bytes))
    request.add_header("Content-Type", "application/octet-stream")
    for name, value in headers.items():
        request.add_header(name, value)
    trusted = _trusted(ca) if parts.scheme == "https" else None
    try:
        # The scheme was checked above.
        with urllib.request.urlopen(request, timeout=PUT_SECONDS, context=trusted) as answer:  # noqa: S310
            answer.read(MAX_ERROR_BYTES)
    except urllib.error.HTTPError as error:
        raise CommandFailed(f"{where} refused the script: {_http_reason(error)}") from None
    except urllib.error.URLError as error:
        raise CommandFailed(f"{where} cannot be reached from here: {_os_reason(error.reason)}") from None
    except (HTTPException, OSError) as error:
        raise CommandFailed(f"{where} broke off the upload: {_os_reason(error)}; try again") from None


def _trusted(ca: bytes | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(cadata=ca.decode("ascii", "replace"))
    return context


def _http_reason(error: urllib.error.HTTPError) -> str:
    code = _S3_ERROR_CODE.search(error.read(MAX_ERROR_BYTES))
    reason = f"{error.code} {error.reason}" + (f" ({code[1].decode()})" if code else "")
    if error.code == HTTPStatus.FORBIDDEN:
        reason += "; the nodes' clocks or their credentials for the store may be wrong"
    return reason


def _os_reason(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not accepted ({error.verify_message}); put its CA into the file of --ca, or"
            " into that of SSL_CERT_FILE"
        )
    if isinstance(error, TimeoutError):
        return f"no answer for {PUT_SECONDS:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
