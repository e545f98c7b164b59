"""Scripts on their way into the object store, and the proof that what is there is what was meant."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from dcron.domain.errors import InvalidInput, NotFound, Overloaded
from dcron.domain.model import Script
from dcron.domain.validation import check_digest, check_size
from dcron.ports import ObjectStore, UploadTarget

__all__ = ["UPLOAD_EXPIRES_SECONDS", "Scripts", "UploadPlan"]

UPLOAD_EXPIRES_SECONDS = 900
"""Time in which a client has to start its upload."""
MAX_UPLOADS = 8
"""Uploads through this node at once, each with a temporary file of at most one script's size."""
UPLOAD_IDLE_SECONDS = 30.0
"""Time for which a client may leave an upload without a further byte."""


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """Way of a script into the store: none is needed when `present`, else PUT to `target`, or upload through
    a node."""

    present: bool
    target: UploadTarget | None = None


class Scripts:
    """Uploads and checks of scripts; none is larger than `max_script_bytes`."""

    def __init__(self, objects: ObjectStore, *, max_script_bytes: int) -> None:
        self._objects = objects
        self.max_script_bytes = max_script_bytes
        self._uploads = 0

    async def prepare_upload(self, sha256: str, size_bytes: int) -> UploadPlan:
        """Way in which a client brings this script into the object store.

        A broken upload of it does not count as present: it could never be replaced otherwise."""
        check_digest("sha256", sha256)
        check_size("size_bytes", size_bytes, max_script_bytes=self.max_script_bytes)
        key = Script(sha256, size_bytes).key
        if await self._objects.size(key) == size_bytes and await self._digest(key) == sha256:
            return UploadPlan(present=True)
        target = await self._objects.presign_put(
            key, size_bytes=size_bytes, expires_seconds=UPLOAD_EXPIRES_SECONDS
        )
        return UploadPlan(present=False, target=target)

    async def upload(self, sha256: str, chunks: AsyncIterator[bytes]) -> int:
        """Store a script that comes through this node and return its length.

        Nothing is stored under the digest unless all that came has it."""
        check_digest("sha256", sha256)
        if self._uploads >= MAX_UPLOADS:
            raise Overloaded(f"{MAX_UPLOADS} uploads run through this node already; try another node")
        self._uploads += 1
        try:
            with tempfile.TemporaryDirectory(prefix="dcron-upload-") as folder:
                path = Path(folder) / "script"
                size_bytes = await self._collect(path, sha256, chunks)
                key = Script(sha256, size_bytes).key
                await self._objects.put_file(key, path, size_bytes=size_bytes)
        except OSError as error:
            reason = error.strerror or "no room"
            raise Overloaded(f"this node cannot keep the upload ({reason}); try another one") from error
        finally:
            self._uploads -= 1
        return size_bytes

    async def _collect(self, path: Path, sha256: str, chunks: AsyncIterator[bytes]) -> int:
        digest = hashlib.sha256()
        size_bytes = 0
        with path.open("wb") as file:
            async for chunk in _unless_idle(chunks):
                size_bytes += len(chunk)
                if size_bytes > self.max_script_bytes:
                    check_size("script", size_bytes, max_script_bytes=self.max_script_bytes)
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        check_size("script", size_bytes, max_script_bytes=self.max_script_bytes)
        if digest.hexdigest() != sha256:
            raise InvalidInput(
                "sha256", f"what was uploaded has the digest {digest.hexdigest()}; upload it again, unchanged"
            )
        return size_bytes

    async def read(self, sha256: str) -> AsyncIterator[bytes]:
        """The content of a stored script in chunks; NotFound where there is none."""
        check_digest("sha256", sha256)
        key = Script(sha256, 0).key
        if await self._objects.size(key) is None:
            raise NotFound(f"no script {sha256} is stored")
        async for chunk in self._objects.read(key):
            yield chunk

    async def verify(self, script: Script) -> None:
        """Make sure that the object store holds exactly this script; InvalidInput("script") otherwise."""
        stored_bytes = await self._objects.size(script.key)
        if stored_bytes is None:
            raise InvalidInput("script", f"no script {script.sha256} is stored; upload it first")
        if stored_bytes != script.size_bytes:
            raise InvalidInput(
                "script",
                f"has {stored_bytes} bytes in the object store, not {script.size_bytes}; upload it again",
            )
        found = await self._digest(script.key)
        if found != script.sha256:
            raise InvalidInput(
                "script", f"what is stored as {script.sha256} has the digest {found}; upload it again"
            )

    async def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        try:
            async for chunk in self._objects.read(key):
                digest.update(chunk)
        except NotFound:
            return ""
        return digest.hexdigest()


async def _unless_idle(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass chunks on; Overloaded when the next one does not come in time."""
    while True:
        try:
            async with asyncio.timeout(UPLOAD_IDLE_SECONDS):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise Overloaded(f"no further byte of the script came for {UPLOAD_IDLE_SECONDS:g} s") from error
        if chunk is None:
            return
        yield chunk
