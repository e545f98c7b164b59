"""What stands before every method of a node: may this caller call it, and is the change recorded.

It knows no transport: whoever brings calls in names the method, says who calls, and puts a change in words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from dcron.domain.access import Caller, Role, refusal
from dcron.domain.audit import DONE, Change
from dcron.domain.errors import DcronError, Forbidden

__all__ = ["RULES", "Gate", "Rule", "Trail"]

_Answer = TypeVar("_Answer")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rule:
    """The least role for a method, and whether it changes something, of which there is a record."""

    least: Role
    recorded: bool = False


_LOOK = Rule(Role.VIEWER)
_CHANGE = Rule(Role.OPERATOR, recorded=True)
_STEER = Rule(Role.ADMIN, recorded=True)
_AMONG_NODES = Rule(Role.NODE)

RULES: Mapping[str, Rule] = {
    # Uploads are not recorded: a script changes nothing until a job names its digest.
    "PrepareUpload": Rule(Role.OPERATOR),
    "UploadScript": Rule(Role.OPERATOR),
    "GetScript": _LOOK,
    "CreateJob": _CHANGE,
    "CreateJobs": _CHANGE,
    "UpdateJob": _CHANGE,
    "DeleteJob": _CHANGE,
    "GetJob": _LOOK,
    "ListJobs": _LOOK,
    "GetJobRevision": _LOOK,
    "ListJobRevisions": _LOOK,
    "PauseJob": _CHANGE,
    "ResumeJob": _CHANGE,
    "RunJob": _CHANGE,
    "NextOccurrences": _LOOK,
    "ListExecutions": _LOOK,
    "GetExecution": _LOOK,
    "WaitExecution": _LOOK,
    "ReadLog": _LOOK,
    "CancelExecution": _CHANGE,
    "ResolveExecution": _CHANGE,
    "ListNodes": _LOOK,
    "DrainNode": _STEER,
    "UndrainNode": _STEER,
    "ForgetNode": _STEER,
    "GetClusterStatus": _LOOK,
    "FreezeCluster": _STEER,
    "ThawCluster": _STEER,
    "ListAudit": Rule(Role.OPERATOR),
    # Of Internal.
    "Offer": _AMONG_NODES,
    "Cancel": _AMONG_NODES,
    "CompareClaims": _AMONG_NODES,
    "AnnounceResignation": _AMONG_NODES,
    "FollowLog": _AMONG_NODES,
    # What tells clients which methods there are.
    "ServerReflectionInfo": _LOOK,
}
"""A rule for each method, by its name in the proto; one that is not here, nobody may call."""


class Trail(Protocol):
    """Where changes are recorded."""

    async def request(self, caller: Caller, changes: Sequence[Change]) -> list[str]:
        """Record what is asked for; the records' ids. An error means that it must not be made."""

    async def results(self, ids: Sequence[str], results: Sequence[str]) -> None:
        """Record what came of each."""


class Gate:
    """Holds callers against RULES, and has changes recorded in a trail."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def admit(self, caller: Caller, method: str) -> None:
        """Raise Forbidden unless the caller has the role for a method. Without TLS it is not asked."""
        rule = RULES.get(method)
        reason = refusal(caller, rule.least) if rule else f"{method} is open to nobody"
        if reason:
            log.warning(
                "call refused",
                action="access",
                method=method,
                who=caller.name,
                where=caller.address,
                error=reason,
            )
            raise Forbidden(reason)

    async def recorded(
        self,
        caller: Caller,
        changes: Sequence[Change],
        call: Callable[[], Awaitable[_Answer]],
        results_of: Callable[[_Answer], Sequence[str]] | None = None,
    ) -> _Answer:
        """The answer of a call, whose changes are recorded before it is made and whose result is after.

        `results_of` tells what came of each change by an answer, where not all of them must be DONE. What the
        call raises goes on. When the changes cannot be recorded the call is not made: StoreUnreachable or
        SetupError."""
        ids = await self._trail.request(caller, changes)
        try:
            answer = await call()
        except Exception as error:
            code = error.code if isinstance(error, DcronError) else DcronError.code
            await self._trail.results(ids, [code] * len(ids))
            raise
        await self._trail.results(ids, results_of(answer) if results_of else [DONE] * len(ids))
        return answer
