"""The worker's cache of scripts by digest; what is in it has been verified."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from pathlib import Path

import structlog

from dcron.domain.errors import DcronError, NotFound, ObjectsUnreachable
from dcron.domain.model import Script
from dcron.ports import ObjectStore
from dcron.services.shared.trouble import Trouble

__all__ = ["BadScript", "ScriptCache"]

MAX_CACHED = 1_000
"""Scripts kept; the one used longest ago goes first."""
MISSING_SECONDS = 30.0
"""How long a script that is not in the object store is looked for again before that is believed: a folder may
not be mounted here, or what was just stored may not have come to the place that was asked."""

log = structlog.get_logger()


class BadScript(DcronError):
    """The stored object is not the script that was registered; no node can run it."""


class ScriptCache:
    """Scripts as executable files."""

    def __init__(self, folder: Path, objects: ObjectStore) -> None:
        self._folder = folder
        self._objects = objects
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        self._missing_since: dict[str, float] = {}
        """By digest, when the event loop's time was that a script was first not there."""
        self._troubles: dict[str, Trouble] = {}
        """By digest, of what could not be had: each is tried again with the next offer."""

    async def path(self, script: Script) -> Path:
        """The script's file. BadScript, NotFound or ObjectsUnreachable when it cannot be had; NotFound only
        after it was missing for MISSING_SECONDS.

        Several callers share one transfer, which goes on when they are cancelled."""
        path = self._folder / script.sha256
        if path.exists() and path.stat().st_size == script.size_bytes:
            os.utime(path)
            return path
        task = self._fetching.get(script.sha256)
        if task is None:
            task = asyncio.create_task(self._fetch(script, path))
            self._fetching[script.sha256] = task
            task.add_done_callback(lambda done: self._fetched(script, done))
        return await asyncio.shield(task)

    def _fetched(self, script: Script, task: asyncio.Task[Path]) -> None:
        self._fetching.pop(script.sha256, None)
        if task.cancelled():
            return
        trouble = self._troubles.pop(script.sha256, None) or Trouble(
            "fetch_script", "script not fetched", "script fetched after all", sha256=script.sha256
        )
        error = task.exception()
        if error is None:
            self._missing_since.pop(script.sha256, None)
            trouble.over()
            return
        trouble.met(str(error) or type(error).__name__)
        if len(self._troubles) < MAX_CACHED:
            self._troubles[script.sha256] = trouble

    async def _fetch(self, script: Script, path: Path) -> Path:
        digest = hashlib.sha256()
        length = 0
        draft = path.with_name(f".{script.sha256}.{secrets.token_hex(4)}")
        try:
            with draft.open("xb") as file:
                async for chunk in self._objects.read(script.key):
                    length += len(chunk)
                    if length > script.size_bytes:
                        break
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                # After a power cut an empty file would be there under the digest, and run as a success.
                await asyncio.to_thread(os.fsync, file.fileno())
            if length != script.size_bytes or digest.hexdigest() != script.sha256:
                raise BadScript(
                    f"the stored script does not match its digest {script.sha256[:12]}…; upload it again"
                )
            draft.chmod(0o755)
            draft.replace(path)
        except NotFound as error:
            if self._is_missing_for_long(script):
                raise
            raise ObjectsUnreachable(f"{error}; it is looked for again") from error
        finally:
            draft.unlink(missing_ok=True)
        log.info("script cached", action="fetch_script", sha256=script.sha256, size_bytes=length)
        self._evict()
        return path

    def _is_missing_for_long(self, script: Script) -> bool:
        now = asyncio.get_running_loop().time()
        if len(self._missing_since) >= MAX_CACHED:
            self._missing_since.clear()
        return now - self._missing_since.setdefault(script.sha256, now) >= MISSING_SECONDS

    def _evict(self) -> None:
        cached = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in cached[:-MAX_CACHED]:
            path.unlink(missing_ok=True)
