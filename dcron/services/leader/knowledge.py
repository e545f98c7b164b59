"""Beliefs of a leader during one term, in one place: docs/leader-knowledge.md has a row for each fact."""

from __future__ import annotations

from collections.abc import Mapping

from dcron.domain.standing import Standing, standing
from dcron.ports import Clock, DocumentStore
from dcron.services.leader.due_queue import DueQueue
from dcron.services.leader.job_book import JobBook
from dcron.services.leader.tracker import Tracked, Tracker
from dcron.services.shared.cluster_settings import KnownSettings

__all__ = ["Knowledge"]


class Knowledge:
    """What is known of jobs (`book`), of which wait for the clock (`due`), of attempts (`tracker`) and of
    the cluster (`settings`)."""

    def __init__(
        self,
        store: DocumentStore,
        clock: Clock,
        settings: KnownSettings,
        unsure_sequences: dict[str, int],
        claims_since: Mapping[str, float],
    ) -> None:
        """`unsure_sequences` outlives the term: see `JobBook`. `claims_since` is older: see `Leadership`."""
        self.due = DueQueue()
        self.book = JobBook(store, self.due, unsure_sequences)
        self.tracker = Tracker(store, clock, claims_since)
        self.settings = settings

    def standing_of(self, tracked: Tracked) -> Standing:
        """Standing of an attempt that is followed."""
        job, revision = self.book.get(tracked.job), self.book.confirmed_revision(tracked.job)
        active = job.place.active if job is not None else None
        held = active is not None and active.execution_id == tracked.active.execution_id
        return standing(
            active if active is not None and held else tracked.active,
            tracked.view,
            self.settings.latest,
            held=held,
            confirmed=revision is not None,
            looked_back=tracked.was_looked_back(revision),
        )
