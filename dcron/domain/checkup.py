"""Judgements of `dcron doctor` on what it found on a node's machine and in the stores: pure.

Facts are gathered elsewhere; here each becomes a finding, in words, with the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "Finding",
    "HostFacts",
    "Level",
    "Limits",
    "SpoolFacts",
    "StoreFacts",
    "judge_clock",
    "judge_interpreters",
    "judge_limits",
    "judge_spool",
    "judge_store",
]

LEADS_WITHIN_SECONDS = 5.0
"""A node whose wall clock is further from the store's does not lead; see services/election/elector.py."""
CLOCK_CALM_SECONDS = 1.45
"""The store tells its time to a second more or less: with what a clock that is kept may be off, less than
this is no difference that could be told."""
LEAST_FREE_BYTES = 100 * 1024**2
CALM_FREE_LOGS = 4
"""A disk that holds fewer of the largest logs than this is short of room."""
SLOW_SYNC_SECONDS = 0.5
SLOW_STORE_SECONDS = 0.5
FILES_BASE = 128
FILES_PER_SLOT = 4
PROCESSES_BASE = 64
PROCESSES_PER_SLOT = 4
MAX_JOBS_NAMED = 5
RAN_BEFORE = "if this cluster has run before, `store` names another prefix or file than it did"
SAFE_COPIES = 3
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gfs2", "ocfs2",
     "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.ceph", "fuse.rclone"}
)  # fmt: skip
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
_GIB = 1024**3


class Level(Enum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """It works, and is likely to surprise someone."""
    FAILED = "failed"
    """The node cannot do its work like this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the checkup. `remedy` is what to do, and empty when all is well."""

    check: str
    level: Level
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One host of the document store: what it is when it answers us, why it does not otherwise."""

    host: str
    version: str = ""
    trouble: str = ""
    refused: bool = False
    """It answers, but not to this user."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The document store as the node's user finds it. Of a store without copies, `copies` is None."""

    hosts: tuple[HostFacts, ...]
    missing: tuple[str, ...] = ()
    """Databases and indexes that are not there yet."""
    prepared: bool = True
    """Whether the databases of jobs and cluster are there, without which nothing else can be looked at."""
    may_create: bool = True
    """Whether the user may make them."""
    write_trouble: str = ""
    round_trip_seconds: float = 0.0
    copies: int | None = None
    write_quorum: int | None = None
    members: tuple[str, ...] = ()
    """CouchDB nodes of the cluster; empty where the user may not ask."""
    absent: tuple[str, ...] = ()
    """Members that the others do not reach."""


@dataclass(frozen=True, slots=True)
class SpoolFacts:
    """The spool's folder, or the one that it is to be made in. `trouble` says why it cannot be written and
    flushed; all else is unknown then."""

    folder: str
    exists: bool = True
    trouble: str = ""
    owner_uid: int = 0
    own_uid: int = 0
    mode: int = 0o700
    file_system: str = ""
    may_execute: bool = True
    """Whether the file system lets programs on it be executed."""
    free_bytes: int = 0
    sync_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Soft limits of this process; None where there is none."""

    open_files: int | None
    processes: int | None


def judge_store(facts: StoreFacts) -> Iterable[Finding]:
    """Whether the document store is reached, lets us in, is complete, and takes writes."""
    check = "document store"
    answering = [host for host in facts.hosts if not host.trouble]
    for host in facts.hosts:
        if host.refused:
            yield Finding(
                check,
                Level.FAILED,
                host.trouble.rstrip("."),
                "check user and password in `store` (percent-encode special characters: @ is %40)",
            )
        elif host.trouble:
            yield Finding(
                check,
                Level.WARNING if answering else Level.FAILED,
                f"{host.host} does not answer: {host.trouble}",
                "check that it runs, host and port in `store`, and the network to it",
            )
    if not answering:
        return
    slow = facts.round_trip_seconds > SLOW_STORE_SECONDS
    away = f", {facts.round_trip_seconds * 1000:.0f} ms away" if facts.round_trip_seconds else ""
    yield Finding(
        check,
        Level.WARNING if slow else Level.OK,
        f"{', '.join(f'{host.host} ({host.version})' for host in answering)}{away}",
        "a slow store makes leaders change and scripts start late: look at its load and the network"
        if slow
        else "",
    )
    yield from _databases(facts)
    yield from _copies(facts)


def _databases(facts: StoreFacts) -> Iterable[Finding]:
    if facts.missing:
        missing = ", ".join(facts.missing)
        yield Finding(
            "databases",
            Level.WARNING if facts.may_create else Level.FAILED,
            f"not there yet: {missing}",
            f"the node makes them when it starts; {RAN_BEFORE}"
            if facts.may_create
            else f"this user may not make them: an admin has to; {RAN_BEFORE}",
        )
    else:
        yield Finding("databases", Level.OK, "databases and indexes are there")
    if facts.write_trouble:
        yield Finding(
            "writing to the store",
            Level.FAILED,
            facts.write_trouble,
            "bring the CouchDB nodes back that are out of reach"
            if facts.absent
            else "make the user a member of the databases, and see that their disk has room",
        )
    elif facts.prepared:
        yield Finding("writing to the store", Level.OK, "a document was written, and nothing was left behind")


def _copies(facts: StoreFacts) -> Iterable[Finding]:
    if facts.copies is None:
        return
    check = "copies"
    quorum = f", writes count once {facts.write_quorum} have them" if facts.write_quorum else ""
    told = f"{facts.copies} {'copy' if facts.copies == 1 else 'copies'} of each document{quorum}"
    members = f"; CouchDB nodes: {', '.join(facts.members)}" if facts.members else ""
    if facts.absent:
        yield Finding(
            check,
            Level.WARNING,
            f"{told}; out of reach for the others: {', '.join(facts.absent)}",
            "bring them back: with fewer than a majority of copies nothing new starts",
        )
    elif facts.copies < SAFE_COPIES:
        yield Finding(
            check,
            Level.WARNING,
            f"{told}{members}",
            "without that one CouchDB node nothing starts, and its disk is the only place of all results: "
            "for a fleet use a CouchDB cluster of three",
        )
    else:
        yield Finding(check, Level.OK, f"{told}{members}")


def judge_clock(offset_seconds: float) -> Finding:
    """This machine's clock, ahead of the store's by so much."""
    off = abs(offset_seconds)
    remedy = "set it, and let it be kept (chrony, ntp, systemd-timesyncd)"
    if off > LEADS_WITHIN_SECONDS:
        message = f"{offset_seconds:+.0f} s off the store's: this node does not lead, and takes no changes"
        return Finding("clock", Level.FAILED, message, remedy)
    if off > CLOCK_CALM_SECONDS:
        message = f"{offset_seconds:+.1f} s off the store's: with it leading, scripts start that much off"
        return Finding("clock", Level.WARNING, message, remedy)
    return Finding("clock", Level.OK, "agrees with the store's to the second")


def judge_spool(facts: SpoolFacts, max_log_bytes: int) -> Iterable[Finding]:
    """Whether the spool can be relied on to keep what scripts did."""
    check = "spool"
    if facts.trouble:
        yield Finding(
            check,
            Level.FAILED,
            f"{facts.folder}: {facts.trouble}",
            "make the folder, owned by dcron's user and with mode 700, or name another in `spool`",
        )
        return
    findings = [*_spool_place(facts), *_spool_room(facts, max_log_bytes)]
    if not findings:
        free = f"{facts.free_bytes / _GIB:.1f} GiB free"
        kind = f" on {facts.file_system}" if facts.file_system else ""
        what = "is ours, writable and flushed" if facts.exists else "can be made when the node starts"
        yield Finding(check, Level.OK, f"{facts.folder} {what}{kind}, {free}")
    yield from findings


def _spool_place(facts: SpoolFacts) -> Iterable[Finding]:
    check = "spool"
    if facts.exists and facts.owner_uid != facts.own_uid:
        message = f"{facts.folder} belongs to uid {facts.owner_uid}, and this is uid {facts.own_uid}"
        yield Finding(
            check, Level.FAILED, message, "run doctor as the user that runs dcron, or chown the folder"
        )
    if facts.exists and facts.mode & 0o077:
        message = f"{facts.folder} has mode {facts.mode:o}: others may read scripts and logs there"
        yield Finding(check, Level.WARNING, message, f"chmod 700 {facts.folder}")
    if facts.file_system in _NETWORK_FILE_SYSTEMS:
        message = f"{facts.folder} is on {facts.file_system}, a network file system"
        yield Finding(
            check, Level.FAILED, message, "name a folder on a local disk: locks and flushes have to be true"
        )
    if facts.file_system in _MEMORY_FILE_SYSTEMS:
        message = f"{facts.folder} is on {facts.file_system}: a restart forgets what scripts did"
        yield Finding(check, Level.WARNING, message, "name a folder on a local disk that lasts")

    if not facts.may_execute:
        message = f"{facts.folder} is on a file system that is mounted noexec"
        yield Finding(
            check,
            Level.WARNING,
            message,
            "jobs without --interpreter fail here: mount it exec, or move `spool`",
        )


def _spool_room(facts: SpoolFacts, max_log_bytes: int) -> Iterable[Finding]:
    check = "spool"
    free = f"{facts.free_bytes / _GIB:.2f} GiB are free on the disk of {facts.folder}"
    if facts.free_bytes < LEAST_FREE_BYTES:
        yield Finding(check, Level.FAILED, free, "make room: without it the node takes no executions")
    elif facts.free_bytes < CALM_FREE_LOGS * max_log_bytes:
        message = f"{free}, room for fewer than {CALM_FREE_LOGS} of the largest logs (max_log_bytes)"
        yield Finding(check, Level.WARNING, message, "make room, or lower max_log_bytes")
    if facts.sync_seconds > SLOW_SYNC_SECONDS:
        message = f"the disk of {facts.folder} took {facts.sync_seconds:.1f} s to flush one small file"
        yield Finding(check, Level.WARNING, message, "use a faster disk: each start of a script waits for it")


def judge_limits(limits: Limits, slots: int) -> Finding:
    """Whether so many scripts at once fit into the limits of the process."""
    check = "limits"
    files, processes = FILES_BASE + FILES_PER_SLOT * slots, PROCESSES_BASE + PROCESSES_PER_SLOT * slots
    if limits.open_files is not None and limits.open_files < files:
        message = f"{limits.open_files} open files are allowed, {slots} slots want {files}"
        return Finding(check, Level.WARNING, message, f"raise it (LimitNOFILE={files}), or lower `slots`")
    if limits.processes is not None and limits.processes < processes:
        message = f"{limits.processes} processes are allowed, {slots} slots want {processes}"
        return Finding(check, Level.WARNING, message, f"raise it (LimitNPROC={processes}), or lower `slots`")
    return Finding(check, Level.OK, f"open files and processes suffice for {slots} slots")


def judge_interpreters(found: Mapping[str, str], wanted: Mapping[str, Sequence[str]]) -> Iterable[Finding]:
    """Whether this node can run what it may be offered. `found` tells the program of each interpreter, or
    nothing; `wanted` the jobs that ask for each. Interpreters that no job asks for are worth a warning."""
    check = "interpreters"
    present = ", ".join(f"{name} ({path})" for name, path in found.items() if path)
    if present:
        yield Finding(check, Level.OK, present)
    for name, path in found.items():
        jobs = wanted.get(name, ())
        if path:
            continue
        if not jobs:
            yield Finding(
                check, Level.WARNING, f"{name} is not there", "install it if jobs are to use it here"
            )
            continue
        more = f" and {len(jobs) - MAX_JOBS_NAMED} more" if len(jobs) > MAX_JOBS_NAMED else ""
        yield Finding(
            check,
            Level.FAILED,
            f"{name} is not there, and jobs that may be offered to this node ask for it: "
            f"{', '.join(jobs[:MAX_JOBS_NAMED])}{more}",
            "install it, or keep the jobs from this node with labels",
        )
