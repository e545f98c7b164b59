"""Scripts and logs in an S3 bucket: MinIO, Ceph, Swift or AWS.

boto3 blocks, so each of its calls runs in one of a few threads. It repeats nothing by itself: who asked
knows whether asking again still makes sense. boto3 is imported when a store is made, not before, since
that takes as long as all the rest of a node together.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import structlog

from dcron.adapters.objects import CHUNK_BYTES, BoundedThreads, FileSource, check_key, limited
from dcron.adapters.s3.short_puts import ShortPuts
from dcron.adapters.s3.url import S3Settings, parse_s3_url
from dcron.adapters.trust import trusting
from dcron.domain.errors import NotFound, ObjectsUnreachable, SetupError
from dcron.ports import UploadTarget

__all__ = ["S3ObjectStore", "S3Settings", "parse_s3_url"]

THREADS = 8
UPLOADS = 4
"""Uploads at a time: they leave threads to others, and hold one part each in memory."""
PART_BYTES = 8 * 1024 * 1024
"""Largest upload in one request, and the size of a part. S3 wants parts of 5 MiB at least."""
SHORT_BYTES = 64 * 1024
"""Largest file that is read and sent in one go, as most logs are."""
SHORT_URL_SECONDS = 900
"""For which the URL of such a PUT is valid: clocks of servers differ."""
MAX_PARTS = 10_000
"""S3's own limit."""
STREAM_MEMORY_BYTES = 1024 * 1024
"""A stream longer than this is collected on disk."""

CONNECT_TIMEOUT_SECONDS = 2.0
READ_TIMEOUT_SECONDS = 20.0
"""Silence of a socket, after which a thread that nobody waits for any more ends."""
CALL_DEADLINE_SECONDS = 5.0
"""For one look-up, or one chunk read."""
PART_DEADLINE_SECONDS = 60.0
"""For PART_BYTES to be sent and stored, or a whole upload to be put together."""
PREPARE_DEADLINE_SECONDS = 15.0
"""For each step of `prepare`: longer, since the credentials may have to be found over the network."""

DEFAULT_REGION = "us-east-1"
"""Region where none is named. AWS makes a bucket there when a request names no region."""
ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
"""Codes for a missing object; a HEAD has no body, so that its code is the status."""
MAY_PASS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
"""Refusals that another attempt need not meet."""

_log = structlog.get_logger()
_Result = TypeVar("_Result")


class _Source(Protocol):
    def readinto(self, buffer: bytearray, /) -> int: ...


class _Refused(ObjectsUnreachable):
    """The store, or boto3 before asking it, answered with an error; `status` is that of HTTP."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    @property
    def for_good(self) -> bool:
        """Whether the same request will be refused again however long one waits."""
        return self.status < HTTPStatus.INTERNAL_SERVER_ERROR and self.status not in MAY_PASS


class S3ObjectStore:
    """`ObjectStore` in one bucket; credentials come from boto3's chain (environment, profile, instance).

    The constructor reads boto3's configuration and raises SetupError where that cannot work.
    """

    def __init__(self, settings: S3Settings, *, ca: Path | None = None) -> None:
        """`ca` is whose certificates are believed, instead of those that boto3 brings along."""
        tls_context = None if ca is None else _trusting(settings, ca)
        self._settings = settings
        self._name = f"S3 bucket {settings.bucket}"
        self._client = _make_client(settings, settings.endpoint, ca)
        # Who signs must know the address that the client will use: it is part of what is signed.
        public = settings.public_endpoint
        self._signer = _make_client(settings, public, ca) if public else self._client
        self._threads = BoundedThreads(self._name, THREADS)
        self._uploads = asyncio.Semaphore(UPLOADS)
        self._short_puts = ShortPuts(self._name, UPLOADS, READ_TIMEOUT_SECONDS, tls_context)

    async def prepare(self) -> None:
        """Make the bucket if it is missing; many nodes may do so at once."""
        try:
            if not await self._bucket_exists():
                await self._create_bucket()
        except _Refused as error:
            if error.for_good:
                raise SetupError(f"{error}; {_remedy(error)}") from error
            raise

    async def is_prepared(self) -> bool:
        """Whether the bucket is there, and is ours to use."""
        return await self._bucket_exists()

    async def presign_put(self, key: str, *, size_bytes: int, expires_seconds: int) -> UploadTarget | None:
        """A URL that allows one key and one length, both signed; what is sent is for the node to verify."""
        parameters = {"Bucket": self._settings.bucket, "Key": check_key(key), "ContentLength": size_bytes}
        # In a thread, since it may refresh the credentials of an instance over the network.
        sign = partial(
            self._signer.generate_presigned_url, "put_object", Params=parameters, ExpiresIn=expires_seconds
        )
        url = await self._run("presign", sign)
        return UploadTarget(url, {"Content-Length": str(size_bytes)})

    async def put_file(self, key: str, path: Path, *, size_bytes: int, trailer: bytes = b"") -> None:
        """Upload the file's first `size_bytes` and the trailer; ValueError if the file is shorter.

        What cannot be read of the file raises OSError, as nothing is wrong with the store."""
        check_key(key)
        if self._short_puts.possible and size_bytes + len(trailer) <= SHORT_BYTES:
            await self._put_short(key, path, size_bytes, trailer)
            return
        open_source = partial(FileSource, path, size_bytes, trailer)
        source = await self._threads.call(CALL_DEADLINE_SECONDS, open_source)
        try:
            await self._upload(key, source, source.total_bytes)
        finally:
            self._threads.release(source.close)

    async def _put_short(self, key: str, path: Path, size_bytes: int, trailer: bytes) -> None:
        async with self._uploads:
            read = partial(self._read_and_sign, key, path, size_bytes, trailer)
            body, url, headers = await self._run("put_object", read)
            if not await self._short_puts.put(url, headers, body):
                await self._request("put_object", {"Key": key, "Body": body})

    def _read_and_sign(
        self, key: str, path: Path, size_bytes: int, trailer: bytes
    ) -> tuple[bytes, str, dict[str, str]]:
        """In a thread: what to send, where to, and the headers that are signed with it. The store refuses
        what does not have the digest."""
        with FileSource(path, size_bytes, trailer) as source:
            body = source.read(source.total_bytes)
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        wanted = {"Bucket": self._settings.bucket, "Key": key, "ContentMD5": digest}
        url = self._client.generate_presigned_url("put_object", Params=wanted, ExpiresIn=SHORT_URL_SECONDS)
        return body, url, {"Content-MD5": digest}

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes], *, max_bytes: int) -> int:
        """Collect a stream, then store it; see `ObjectStore.put_stream`."""
        check_key(key)
        with tempfile.SpooledTemporaryFile(max_size=STREAM_MEMORY_BYTES) as collected:
            async for chunk in limited(chunks, max_bytes):
                await self._threads.call(CALL_DEADLINE_SECONDS, partial(collected.write, chunk))
            total_bytes = collected.tell()
            collected.seek(0)
            await self._upload(key, collected, total_bytes)
        return total_bytes

    async def size(self, key: str) -> int | None:
        """Length in bytes, None where there is no such object."""
        try:
            answer = await self._request("head_object", {"Key": check_key(key)})
        except _Refused as error:
            if error.code in ABSENT:
                return None
            raise
        return int(answer["ContentLength"])

    async def read(self, key: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """The object from `offset`, as it was when reading began; NotFound at the first chunk."""
        wanted = {"Key": check_key(key)}
        # Asked of an empty object, even the range from 0 is "not satisfiable".
        if offset:
            wanted["Range"] = f"bytes={offset}-"
        try:
            answer = await self._request("get_object", wanted)
        except _Refused as error:
            if error.code in ABSENT:
                raise NotFound(f"no object {key} is stored") from error
            if error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return
            raise
        body = answer["Body"]
        try:
            while chunk := await self._run("get_object", partial(body.read, CHUNK_BYTES)):
                yield chunk
        finally:
            # A consumer that stopped early leaves the rest unread: the connection is closed with it.
            self._threads.release(body.close)

    async def delete(self, key: str) -> None:
        """Remove the object; no error if it is gone."""
        try:
            await self._request("delete_object", {"Key": check_key(key)})
        except _Refused as error:
            if error.code not in ABSENT:
                raise

    async def close(self) -> None:
        """Let the threads end and close the connections."""
        await self._short_puts.close()
        self._threads.close()
        self._client.close()
        self._signer.close()

    async def _bucket_exists(self) -> bool:
        try:
            await self._request("head_bucket", {}, PREPARE_DEADLINE_SECONDS)
        except _Refused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    async def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await self._request(
                "create_bucket", {} if region == DEFAULT_REGION else place, PREPARE_DEADLINE_SECONDS
            )
        except _Refused as error:
            # 409: another node was first. That it is ours, or there at all by now, is for a look to tell.
            if error.status != HTTPStatus.CONFLICT or not await self._bucket_exists():
                raise
        else:
            _log.info("made the bucket", action="bucket_created", bucket=self._settings.bucket)

    async def _upload(self, key: str, source: _Source, total_bytes: int) -> None:
        if total_bytes > MAX_PARTS * PART_BYTES:
            raise ValueError(f"{key}: {total_bytes} bytes are more than {MAX_PARTS} parts of {PART_BYTES}")
        async with self._uploads:
            if total_bytes > PART_BYTES:
                await self._upload_parts(key, source)
                return
            # As bytes and not as a view of the file: boto3 reads a file twice, to sign and to send it,
            # and a file that changed in between would be refused by the store.
            body = bytearray(total_bytes)
            await self._threads.call(CALL_DEADLINE_SECONDS, partial(source.readinto, body))
            await self._request("put_object", {"Key": key, "Body": body}, PART_DEADLINE_SECONDS)

    async def _upload_parts(self, key: str, source: _Source) -> None:
        started = await self._request("create_multipart_upload", {"Key": key})
        upload = {"Key": key, "UploadId": started["UploadId"]}
        parts: list[dict[str, object]] = []
        # One buffer for all parts: of a new one for each, the allocator would keep one for each thread.
        body = bytearray(PART_BYTES)
        fill = partial(source.readinto, body)
        try:
            while filled_bytes := await self._threads.call(CALL_DEADLINE_SECONDS, fill):
                del body[filled_bytes:]
                part = {"PartNumber": len(parts) + 1}
                stored = await self._request(
                    "upload_part", {**upload, **part, "Body": body}, PART_DEADLINE_SECONDS
                )
                parts.append({**part, "ETag": stored["ETag"]})
            await self._request(
                "complete_multipart_upload",
                {**upload, "MultipartUpload": {"Parts": parts}},
                PART_DEADLINE_SECONDS,
            )
        except BaseException:
            # Cancelled as well: parts that nobody puts together take space for ever.
            self._threads.release(
                partial(self._client.abort_multipart_upload, Bucket=self._settings.bucket, **upload)
            )
            raise

    async def _request(
        self, operation: str, arguments: dict[str, Any], deadline_seconds: float = CALL_DEADLINE_SECONDS
    ) -> dict[str, Any]:
        method = getattr(self._client, operation)
        call = partial(method, Bucket=self._settings.bucket, **arguments)
        return await self._run(operation, call, deadline_seconds)

    async def _run(
        self, what: str, call: Callable[[], _Result], deadline_seconds: float = CALL_DEADLINE_SECONDS
    ) -> _Result:
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            return await self._threads.call(deadline_seconds, call)
        except (BotoCoreError, ClientError, HTTPError) as error:
            raise _translated(f"{self._name}: {what}", error) from error


def _trusting(settings: S3Settings, ca: Path) -> ssl.SSLContext:
    """A context that believes a CA; SetupError where it cannot be used: boto3 would say so at the first
    request only."""
    if settings.endpoint and not settings.endpoint.startswith("https:"):
        raise SetupError("objects_ca: only an endpoint that is reached by https:// has a certificate")
    return trusting("objects_ca", ca)


def _make_client(settings: S3Settings, endpoint: str | None, ca: Path | None) -> Any:
    """A client of boto3, whose methods are made at run time and have no types."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    styles: dict[bool | None, Literal["auto", "path", "virtual"]] = {True: "path", False: "virtual"}
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=THREADS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": styles.get(settings.path_style, "auto")},
        # Many servers other than AWS refuse the checksums that boto3 adds unasked since 1.36.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        session = boto3.session.Session()
        region = settings.region or session.region_name or DEFAULT_REGION
        verify = None if ca is None else str(ca)
        return session.client("s3", region_name=region, endpoint_url=endpoint, config=config, verify=verify)
    except (BotoCoreError, ValueError) as error:
        raise SetupError(f"S3 bucket {settings.bucket}: boto3 cannot be set up: {error}") from error


def _translated(what: str, error: Exception) -> ObjectsUnreachable:
    """The error in dcron's terms. Of an answer only its code is told: its text is the server's own."""
    from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", HTTPStatus.BAD_GATEWAY)
        code = str(error.response.get("Error", {}).get("Code", status))
        answer = f"HTTP {status}" if code == str(status) else f"{code}, HTTP {status}"
        return _Refused(f"{what} was refused ({answer})", status, code)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return _Refused(f"{what}: there are no credentials", HTTPStatus.UNAUTHORIZED, "NoCredentials")
    return ObjectsUnreachable(f"{what}: {_words(error)}")


def _words(error: Exception) -> str:
    """An error of the connection, without the key, which boto3 repeats with the whole address."""
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError, SSLError

    if not isinstance(error, EndpointConnectionError | ConnectTimeoutError | ReadTimeoutError | SSLError):
        return str(error)
    parts = urlsplit(str(error.kwargs.get("endpoint_url", "")))
    where = f"{parts.scheme}://{parts.netloc}" if parts.netloc else "the store"
    if isinstance(error, SSLError):
        return f"the certificate of {where} is not accepted; objects_ca names the CA that it is of"
    if isinstance(error, ReadTimeoutError):
        return f"no answer in time from {where}"
    return f"no connection to {where}"


def _remedy(error: _Refused) -> str:
    if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return (
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile), that they may use"
            " this bucket, and this machine's clock"
        )
    return "check endpoint, region and path_style of the object store URL"
