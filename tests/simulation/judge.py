"""Has a run looked at by every checker."""

from __future__ import annotations

from tests.simulation.checkers import (
    a_one_start,
    b_every_occurrence,
    c_next_attempt,
    d_no_overlap,
    e_nothing_changes,
    f_results_arrive,
    g_older_terms,
    h_well_afterwards,
    i_not_for_the_past,
    j_alive_is_not_lost,
    k_late_outcomes,
    l_true_ends_are_shown,
    m_followed_in_time,
    n_reasons_are_true,
    v_newer_fields,
)
from tests.simulation.history import History
from tests.simulation.timeline import Timeline

__all__ = ["CHECKERS", "violations"]

CHECKERS = {
    "a": a_one_start,
    "b": b_every_occurrence,
    "c": c_next_attempt,
    "d": d_no_overlap,
    "e": e_nothing_changes,
    "f": f_results_arrive,
    "g": g_older_terms,
    "h": h_well_afterwards,
    "i": i_not_for_the_past,
    "j": j_alive_is_not_lost,
    "k": k_late_outcomes,
    "l": l_true_ends_are_shown,
    "m": m_followed_in_time,
    "n": n_reasons_are_true,
    "v": v_newer_fields,
}


def violations(history: History) -> list[str]:
    """What is wrong with a run, each line beginning with the checker's letter."""
    timeline = Timeline(history)
    return [
        f"({letter}) {sentence}"
        for letter, checker in CHECKERS.items()
        for sentence in checker.check(timeline)
    ]
