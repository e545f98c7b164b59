"""The worker's own record of its attempts, on disk before anything else: what a script did is not lost.

    <spool>/lock                                  held by the running node
    <spool>/id                                    drawn once, stays with the folder
    <spool>/scripts/<sha256>                      the cache of scripts
    <spool>/attempts/<execution id>:<token>/
        attempt.json    the claim, before it is sent to the database; the keeper has it in its ledger too
        log, exit.json  by the keeper
        outcome.json    what is to be recorded of an attempt that the keeper knows nothing of
    <spool>/deliveries                            which attempts were delivered (`delivery_ledger.py`)
    <spool>/delivered/                            what is about to be removed

An attempt's folder goes when both stores have what they should, and that is noted among the deliveries. Until
then a restart delivers both again: whatever had arrived is stored as it was.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from dcron.domain.documents import claim_body, claim_of, outcome_body, outcome_of
from dcron.domain.errors import SetupError, SpoolFull
from dcron.domain.model import Claim, Outcome
from dcron.services.worker.delivery_ledger import DeliveryLedger

__all__ = ["Entry", "Spool", "claim_note", "read_spool_id"]

_OUTCOME = "outcome.json"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt in the spool."""

    claim: Claim
    folder: Path

    @property
    def log_path(self) -> Path:
        """Output of the script."""
        return self.folder / "log"


class Spool:
    """The folder of one node. All methods block on the disk: call them from a thread where it matters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._attempts = folder / "attempts"
        self._delivered = folder / "delivered"
        self.scripts = folder / "scripts"
        self._ledger = DeliveryLedger(folder / "deliveries")
        self._lock: int | None = None
        self.id = ""

    def open(self) -> None:
        """Take the folder for this process; SetupError when another has it or it cannot be written."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._attempts.mkdir(mode=0o700, exist_ok=True)
            self._delivered.mkdir(mode=0o700, exist_ok=True)
            self.scripts.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.id = self._read_id()
            self._ledger.open()
        except BlockingIOError as error:
            self.close()
            raise SetupError(
                f"spool {self.folder} is in use by another dcron node; give each its own"
            ) from error
        except OSError as error:
            raise SetupError(f"spool {self.folder} cannot be used: {error.strerror}") from error

    def _read_id(self) -> str:
        path = self.folder / "id"
        body = _read_json(path)
        if body is None:
            body = {"id": secrets.token_hex(8)}
            _write_json(path, body)
        return str(body["id"])

    def close(self) -> None:
        """Let go of the folder."""
        self._ledger.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def add(self, claims: Iterable[Claim]) -> list[Entry]:
        """Note attempts before they are claimed. SpoolFull: none of them is noted."""
        entries = [Entry(claim, self._folder_of(claim)) for claim in claims]
        made: list[Path] = []
        try:
            for entry in entries:
                entry.folder.mkdir(mode=0o700)
                made.append(entry.folder)
                # In place: a claim is sent only once this is whole, so half of it is no attempt.
                (entry.folder / "attempt.json").write_text(json.dumps(claim_note(entry.claim)))
        except OSError as error:
            for folder in made:
                shutil.rmtree(folder, ignore_errors=True)
            raise self._full(error) from error
        return entries

    def add_ended(self, claim: Claim, outcome: Outcome) -> Entry:
        """Note an attempt together with its outcome. SpoolFull: neither is noted.

        The outcome is on the disk first: the attempt alone would count as one that was not started."""
        entry = Entry(claim, self._folder_of(claim))
        try:
            entry.folder.mkdir(mode=0o700)
        except OSError as error:
            raise self._full(error) from error
        try:
            self.finish(entry, outcome)
            _sync(entry.folder / _OUTCOME)
            _sync(entry.folder)
            (entry.folder / "attempt.json").write_text(json.dumps(claim_note(claim)))
        except OSError as error:
            shutil.rmtree(entry.folder, ignore_errors=True)
            raise self._full(error) from error
        return entry

    def _folder_of(self, claim: Claim) -> Path:
        return self._attempts / f"{claim.execution_id}:{claim.token}"

    def _full(self, error: OSError) -> SpoolFull:
        if error.errno in _DISK_FULL:
            return SpoolFull(f"spool {self.folder} is full")
        return SpoolFull(f"spool {self.folder} cannot be written: {error.strerror}")

    def finish(self, entry: Entry, outcome: Outcome) -> None:
        """Note what is to be recorded where no exit of a script tells it. Raises OSError."""
        _write_json(entry.folder / _OUTCOME, outcome_body(outcome))

    def outcome(self, entry: Entry) -> Outcome | None:
        """Note as it was written; None when there is none, or not a whole one."""
        body = _read_json(entry.folder / _OUTCOME)
        return outcome_of(body) if body is not None else None

    def entries(self) -> list[Entry]:
        """All attempts that the folder holds. Half-made ones, which nobody can have claimed, are removed, and
        what a crash left of delivered ones."""
        for folder in self._delivered.iterdir():
            _remove(folder)
        found = []
        for folder in sorted(self._attempts.iterdir()):
            body = _read_json(folder / "attempt.json")
            if body is not None:
                found.append(Entry(claim_of(body.pop("execution"), body), folder))
                continue
            _remove(folder)
        return found

    def note_delivered(self, entries: Iterable[Entry]) -> None:
        """Remember that both stores have everything of some attempts; before they are removed.

        Raises OSError: then they may be remembered or not."""
        self._ledger.note([entry.claim.token for entry in entries])

    def delivered_among(self, tokens: Iterable[str]) -> frozenset[str]:
        """Tokens of attempts that were delivered from here, of the newest half a million. Raises OSError."""
        return self._ledger.among(tokens)

    def remove(self, entry: Entry) -> None:
        """Forget an attempt that was delivered, and noted as such. Raises OSError."""
        # At one stroke: neither a crash nor a reader must find an attempt without its end or its log.
        delivered = entry.folder.rename(self._delivered / entry.folder.name)
        _clear(delivered)


def _clear(folder: Path) -> None:
    """Remove a folder of files. `shutil.rmtree` asks the system three times as often, to be safe where others
    may write; and there is one for each attempt."""
    try:
        for file in folder.iterdir():
            file.unlink()
    except IsADirectoryError:
        shutil.rmtree(folder)
    else:
        folder.rmdir()


def _remove(folder: Path) -> None:
    try:
        _clear(folder)
    except OSError as error:
        log.warning("cannot remove", action="open_spool", folder=str(folder), error=str(error))


def read_spool_id(folder: Path) -> str:
    """The id of a spool, without opening it; empty before its first use, or where it cannot be read."""
    try:
        body = _read_json(folder / "id")
    except OSError:
        return ""
    return str(body["id"]) if body else ""


def claim_note(claim: Claim) -> dict[str, Any]:
    """Content of `attempt.json`."""
    return {"execution": claim.execution_id, **claim_body(claim)}


def _write_json(path: Path, body: dict[str, Any]) -> None:
    """Whole or not at all, as far as any process can see."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(body))
    draft.replace(path)


def _sync(path: Path) -> None:
    """Have what is at a path survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        body = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        # After a power cut a file can be there without its content.
        return None
    return body if isinstance(body, dict) else None
