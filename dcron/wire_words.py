"""Words of enumerations as numbers of the wire, and back.

A word that only a newer version knows is unspecified there, and `told` puts it into a text beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from dcron.domain.model import SkipReason, State, VerdictKind
from dcron.domain.offers import OfferResult
from dcron.domain.records import Unrecognized
from dcron.rpc import dcron_pb2 as pb

__all__ = [
    "STATES_BACK",
    "VERDICTS_BACK",
    "result_from",
    "result_number",
    "skip_reason_number",
    "state_number",
    "told",
    "verdict_number",
]

_STATES = {
    State.RUNNING: pb.EXECUTION_STATE_RUNNING,
    State.SUCCEEDED: pb.EXECUTION_STATE_SUCCEEDED,
    State.FAILED: pb.EXECUTION_STATE_FAILED,
    State.TIMED_OUT: pb.EXECUTION_STATE_TIMED_OUT,
    State.CANCELLED: pb.EXECUTION_STATE_CANCELLED,
    State.LOST: pb.EXECUTION_STATE_LOST,
    State.NOT_STARTED: pb.EXECUTION_STATE_NOT_STARTED,
}
STATES_BACK: Mapping[int, State] = {number: state for state, number in _STATES.items()}
_VERDICTS = {
    VerdictKind.SUCCEEDED: pb.VERDICT_SUCCEEDED,
    VerdictKind.FAILED: pb.VERDICT_FAILED,
    VerdictKind.RETRY: pb.VERDICT_RETRY,
}
VERDICTS_BACK: Mapping[int, VerdictKind] = {number: verdict for verdict, number in _VERDICTS.items()}
_SKIP_REASONS = {
    SkipReason.COALESCED: pb.SKIP_REASON_COALESCED,
    SkipReason.MISSED: pb.SKIP_REASON_MISSED,
    SkipReason.PAUSED: pb.SKIP_REASON_PAUSED,
    SkipReason.FROZEN: pb.SKIP_REASON_FROZEN,
}
_RESULTS = {
    OfferResult.ACCEPTED: pb.OFFER_RESULT_ACCEPTED,
    OfferResult.BUSY: pb.OFFER_RESULT_BUSY,
    OfferResult.DRAINING: pb.OFFER_RESULT_DRAINING,
    OfferResult.OLDER_TERM: pb.OFFER_RESULT_OLDER_TERM,
    OfferResult.NOT_CLAIMED: pb.OFFER_RESULT_NOT_CLAIMED,
    OfferResult.UNABLE: pb.OFFER_RESULT_UNABLE,
}
_RESULTS_BACK = {number: result for result, number in _RESULTS.items()}


def state_number(state: State | Unrecognized) -> pb.ExecutionState.ValueType:
    """Unspecified for a state that only a newer version knows."""
    return _STATES[state] if isinstance(state, State) else pb.EXECUTION_STATE_UNSPECIFIED


def verdict_number(kind: VerdictKind | Unrecognized) -> pb.Verdict.ValueType:
    """Unspecified for a verdict that only a newer version knows."""
    return _VERDICTS[kind] if isinstance(kind, VerdictKind) else pb.VERDICT_UNSPECIFIED


def skip_reason_number(reason: SkipReason | Unrecognized) -> pb.SkipReason.ValueType:
    """Unspecified for a reason that only a newer version knows."""
    return _SKIP_REASONS[reason] if isinstance(reason, SkipReason) else pb.SKIP_REASON_UNSPECIFIED


def told(what: str, word: Enum | Unrecognized, text: str = "") -> str:
    """A text, which tells what the number of a word cannot where only a newer version knows it."""
    if not isinstance(word, Unrecognized):
        return text
    unknown = f"{what} {word.value!r}, which only a newer version of dcron knows"
    return f"{unknown}: {text}" if text else unknown


def result_number(result: OfferResult) -> pb.OfferResult.ValueType:
    """What a worker says to an offer."""
    return _RESULTS[result]


def result_from(number: pb.OfferResult.ValueType) -> OfferResult:
    """What a worker said to an offer; what only a newer node knows counts as unable."""
    return _RESULTS_BACK.get(number, OfferResult.UNABLE)
