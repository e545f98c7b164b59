"""Cron schedules: which instants a schedule names, in a timezone, as UTC.

Five fields as in crontab(5), or six with seconds first (as Quartz, Spring and Dkron have it), or
@hourly and its kin. Around a change of daylight-saving time the rules are those of Debian's cron(8):
what falls into the skipped hour runs right after it, and what names fixed hours runs once in the
repeated hour; schedules for every hour follow elapsed time.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

from dcron.domain.errors import InvalidInput

__all__ = ["ALIASES", "MAX_STEPS", "Schedule", "parse_schedule", "parse_timezone"]

MAX_STEPS = 200
"""Occurrences that one call counts at most: a step costs some 30 µs, and a per-second job may have
been away for a year."""

_MAX_LENGTH = 200
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = (
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31"),
    ("month", "1-12 or jan-dec"),
    ("day of week", "0-7 or sun-sat"),
)
_HOUR = 1


class Schedule:
    """The occurrences of one cron expression in one timezone. Immutable."""

    def __init__(self, expression: str, timezone: ZoneInfo) -> None:
        """Use `parse_schedule`, which checks both."""
        self._timezone = timezone
        # Parsed once: that takes longer than a step does.
        self._steps = croniter(expression, 0.0, second_at_beginning=len(expression.split()) == len(_FIELDS))
        self._every_hour = self._steps.expanded[_HOUR] == ["*"]

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Occurrences strictly after an instant, ascending, in UTC; ends when the schedule has no more."""
        steps = copy(self._steps)
        steps.set_current(instant.astimezone(self._timezone))
        while True:
            try:
                local: datetime = steps.get_next(datetime)
            except CroniterBadDateError:
                return
            if self._every_hour or not _repeats_an_hour(local):
                yield local.astimezone(UTC)

    def next_after(self, instant: datetime) -> datetime | None:
        """The first occurrence strictly after an instant; None when there is none."""
        return _next_after(self, instant)

    def between(self, after: datetime, until: datetime) -> tuple[list[datetime], datetime | None]:
        """Occurrences in (after, until], at most MAX_STEPS of them, and the first one beyond `until`.

        When there are more than MAX_STEPS, the list stops there and the second value is still the
        first beyond `until`."""
        inside, following = _between(self, after, until)
        return list(inside), following


# Jobs that are registered together, or fall due together, mostly have few schedules: whole fleets run
# something at midnight.
@lru_cache(maxsize=1_000)
def _next_after(schedule: Schedule, instant: datetime) -> datetime | None:
    return next(schedule.after(instant), None)


@lru_cache(maxsize=1_000)
def _between(
    schedule: Schedule, after: datetime, until: datetime
) -> tuple[tuple[datetime, ...], datetime | None]:
    inside: list[datetime] = []
    for occurrence in islice(schedule.after(after), MAX_STEPS + 1):
        if occurrence > until:
            return tuple(inside), occurrence
        inside.append(occurrence)
    if len(inside) <= MAX_STEPS:
        return tuple(inside), None
    return tuple(inside[:MAX_STEPS]), schedule.next_after(until)


def _repeats_an_hour(local: datetime) -> bool:
    """Whether this wall-clock time has been there already, an hour of daylight-saving time ago."""
    return local.fold == 1 and local.replace(fold=0).utcoffset() != local.utcoffset()


@lru_cache(maxsize=10_000)
def parse_schedule(expression: str, timezone: str) -> Schedule:
    """The schedule of an expression; InvalidInput("schedule" or "timezone") says what is allowed."""
    zone = parse_timezone(timezone)
    if len(expression) > _MAX_LENGTH:
        raise InvalidInput("schedule", f"longer than {_MAX_LENGTH} characters")
    text = " ".join(expression.lower().split())
    if text.startswith("@"):
        if text not in ALIASES:
            raise InvalidInput("schedule", f"unknown alias {expression!r}; use one of {', '.join(ALIASES)}")
        text = ALIASES[text]
    fields = text.split()
    if len(fields) not in (5, 6):
        raise InvalidInput(
            "schedule",
            f"{expression!r} has {len(fields)} fields; use five (minute hour day month weekday), "
            "or six with seconds first",
        )
    for (name, allowed), value in zip(_FIELDS[-len(fields) :], fields, strict=True):
        _check_field(name, allowed, value)
    schedule = Schedule(text, zone)
    if schedule.next_after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise InvalidInput("schedule", f"{expression!r} never comes: there is no such day in any year")
    return schedule


def _check_field(name: str, allowed: str, value: str) -> None:
    """Try one field alone among wildcards, so that the message can name it."""
    index = [field for field, _ in _FIELDS].index(name)
    probe = ["*"] * 6
    probe[index] = value
    # Hashed (h) and random (r) fields would give every node another answer.
    plain = not value.startswith(("h", "r")) and "(" not in value
    try:
        croniter.expand(" ".join(probe), second_at_beginning=True)
    except CroniterBadCronError:
        plain = False
    if not plain:
        raise InvalidInput("schedule", f"{name} {value!r} is not valid; allowed is {allowed}, with * , - /")


@lru_cache(maxsize=1_000)
def parse_timezone(name: str) -> ZoneInfo:
    """The IANA timezone of a name; InvalidInput when it is not known here."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(
            "timezone", f"unknown timezone {name[:80]!r}; use an IANA name such as Europe/Berlin or UTC"
        ) from error
