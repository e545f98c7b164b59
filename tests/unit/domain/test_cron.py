"""Schedules name the instants that crontab(5) and Debian's cron(8) say, in every timezone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcron.domain.cron import ALIASES, MAX_STEPS, Schedule, parse_schedule, parse_timezone
from dcron.domain.errors import InvalidInput

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
INSTANTS = st.datetimes(datetime(2025, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
CHANGES = [
    datetime(2026, month, day, tzinfo=UTC)
    for month, day in ((3, 7), (3, 28), (4, 4), (7, 1), (10, 3), (10, 24), (10, 31))
]
"""Each the day before the clocks change somewhere, but for one in July."""


def local_times(expression: str, timezone: str, day: str, *, days: int = 1) -> list[str]:
    """The local times, with their offset, that a schedule names on a local day."""
    zone = ZoneInfo(timezone)
    begin = datetime.fromisoformat(day).replace(tzinfo=zone)
    end = (begin + timedelta(days=days)).astimezone(UTC)
    found, _ = parse_schedule(expression, timezone).between(
        begin.astimezone(UTC) - timedelta(seconds=1), end - timedelta(seconds=1)
    )
    return [each.astimezone(zone).strftime("%H:%M%z") for each in found]


# Daylight-saving time: the hour from 2 to 3 is skipped in March, and one is repeated in autumn.


@pytest.mark.parametrize(
    ("timezone", "day", "expected"),
    [(BERLIN, "2026-03-29", "03:00+0200"), (NEW_YORK, "2026-03-08", "03:00-0400")],
)
@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "0 2 * * *", "15,45 2 * * *", "0 2,3 * * *", "0 30 2 * * *"]
)
def test_what_falls_into_the_skipped_hour_runs_once_right_after_it(
    timezone, day, expected, expression
) -> None:
    assert local_times(expression, timezone, day) == [expected]


@pytest.mark.parametrize(
    ("timezone", "day", "expected"),
    [(BERLIN, "2026-10-25", "02:30+0200"), (NEW_YORK, "2026-11-01", "01:30-0400")],
)
def test_what_names_a_fixed_hour_runs_once_in_the_repeated_one(timezone, day, expected) -> None:
    hour = expected[1]
    assert local_times(f"30 {hour} * * *", timezone, day) == [expected]
    assert local_times(f"0 30 {hour} * * *", timezone, day) == [expected]


@pytest.mark.parametrize(
    ("timezone", "day", "hours"),
    [
        (BERLIN, "2026-03-29", 23),
        (BERLIN, "2026-10-25", 25),
        (NEW_YORK, "2026-03-08", 23),
        (NEW_YORK, "2026-11-01", 25),
    ],
)
@pytest.mark.parametrize(
    "expression", ["0 * * * *", "30 * * * *", "30 */1 * * *", "15 0-23 * * *", "0 5 * * * *"]
)
def test_schedules_for_every_hour_follow_elapsed_time(timezone, day, hours, expression) -> None:
    zone = ZoneInfo(timezone)
    begin = datetime.fromisoformat(day).replace(tzinfo=zone).astimezone(UTC) - timedelta(seconds=1)
    found, following = parse_schedule(expression, timezone).between(begin, begin + timedelta(hours=hours))
    assert len(found) == hours
    gaps = {later - earlier for earlier, later in zip(found, [*found[1:], following], strict=True)}
    assert gaps == {timedelta(hours=1)}


def test_every_few_minutes_of_fixed_hours_run_once_in_the_repeated_hour() -> None:
    times = local_times("*/30 1-3 * * *", BERLIN, "2026-10-25")
    assert times == ["01:00+0200", "01:30+0200", "02:00+0200", "02:30+0200", "03:00+0100", "03:30+0100"]


@pytest.mark.parametrize("timezone", [BERLIN, NEW_YORK, "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])
@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "*/7 * * * *", "0 1-3 * * *", "*/20 0-4 * * 0", "@daily"]
)
def test_beginning_anywhere_gives_the_same_occurrences(expression: str, timezone: str) -> None:
    schedule = parse_schedule(expression, timezone)
    for begin in CHANGES:
        until = begin + timedelta(days=2)
        inside = list(takewhile(lambda each, until=until: each <= until, schedule.after(begin)))
        at, walked = begin, []
        while (at := schedule.next_after(at)) <= until:
            walked.append(at)
        assert walked == inside
        assert walked == sorted(set(walked))


# Agreement with a calendar of our own.


def counted(zone: ZoneInfo, minutes: set[int], hours: set[int] | None, begin: datetime) -> list[datetime]:
    """Minute by minute through two days: what matches, each local time once where hours are named, and
    the first minute after a gap for what fell into it."""
    found = []
    before = begin.astimezone(zone).replace(tzinfo=None)
    for number in range(1, 2 * 24 * 60 + 1):
        instant = begin + timedelta(minutes=number)
        local = instant.astimezone(zone)
        now = local.replace(tzinfo=None)
        if hours is None:
            matches = local.minute in minutes
        else:
            # Local times gone by since the last minute: several after a gap, none when set back.
            passed = [
                before + timedelta(minutes=step + 1) for step in range((now - before) // timedelta(minutes=1))
            ]
            matches = any(each.minute in minutes and each.hour in hours for each in passed)
            now = max(now, before)
        before = now
        if matches:
            found.append(instant)
    return found


@settings(max_examples=60)
@given(
    st.sampled_from([BERLIN, NEW_YORK]),
    st.sets(st.integers(0, 59), min_size=1, max_size=3),
    st.none() | st.sets(st.integers(0, 23), min_size=1, max_size=5),
    st.sampled_from(CHANGES),
)
def test_around_a_change_of_the_clocks_local_times_come_once(timezone, minutes, hours, begin) -> None:
    hour_field = "*" if hours is None else ",".join(map(str, sorted(hours)))
    schedule = parse_schedule(f"{','.join(map(str, sorted(minutes)))} {hour_field} * * *", timezone)
    expected = counted(ZoneInfo(timezone), minutes, hours, begin)
    assert schedule.between(begin, begin + timedelta(days=2))[0] == expected


@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=4),
    weekdays=st.sets(st.integers(0, 6), min_size=1, max_size=7),
    begin=INSTANTS,
)
def test_in_utc_the_minutes_are_those_whose_fields_match(minutes, hours, weekdays, begin) -> None:
    fields = [",".join(map(str, sorted(each))) for each in (minutes, hours, weekdays)]
    schedule = parse_schedule(f"{fields[0]} {fields[1]} * * {fields[2]}", "UTC")
    end = begin + timedelta(days=8)
    minute = begin.replace(second=0, microsecond=0)
    expected = []
    while minute <= end:
        # isoweekday gives Sunday a 7, cron a 0.
        matches = minute.minute in minutes and minute.hour in hours and minute.isoweekday() % 7 in weekdays
        if matches and minute > begin:
            expected.append(minute)
        minute += timedelta(minutes=1)
    assert schedule.between(begin, end)[0] == expected


@given(
    st.sampled_from(["*/7 * * * *", "0 9 * * 1-5", "30 2 * * *", "*/10 * * * * *", "0 0 31 * *"]),
    st.sampled_from(["UTC", BERLIN, NEW_YORK]),
    INSTANTS,
    st.integers(0, 7 * 24 * 3600),
)
def test_between_is_next_after_again_and_again(expression, timezone, begin, seconds) -> None:
    schedule = parse_schedule(expression, timezone)
    until = begin + timedelta(seconds=min(seconds, 9_000) if expression.count("*") == 6 else seconds)
    at, expected = schedule.next_after(begin), []
    while at <= until and len(expected) < MAX_STEPS:
        expected.append(at)
        at = schedule.next_after(at)
    found, following = schedule.between(begin, until)
    assert found == expected
    assert following == schedule.next_after(max(until, begin))


def test_six_fields_have_the_seconds_first() -> None:
    begin = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    found = islice(parse_schedule("15,45 30 * * * *", "UTC").after(begin), 3)
    assert [each.strftime("%H:%M:%S") for each in found] == ["12:30:15", "12:30:45", "13:30:15"]


def test_what_lies_on_the_instant_itself_is_not_after_it() -> None:
    noon = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    schedule = parse_schedule("* * * * *", "UTC")
    assert schedule.next_after(noon) == noon + timedelta(minutes=1)
    assert schedule.next_after(noon - timedelta(microseconds=1)) == noon
    assert schedule.between(noon, noon) == ([], noon + timedelta(minutes=1))
    assert schedule.between(noon, noon + timedelta(minutes=1))[0] == [noon + timedelta(minutes=1)]


def test_day_of_month_and_day_of_week_are_either_or_when_both_are_restricted() -> None:
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    found, _ = parse_schedule("0 0 13 * 5", "UTC").between(begin, begin + timedelta(days=20))
    assert [each.day for each in found] == [6, 13, 20]


def test_a_leap_day_comes_every_four_years() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_schedule("0 0 29 2 *", "UTC").next_after(begin) == datetime(2028, 2, 29, tzinfo=UTC)


def test_a_per_second_job_after_a_year_takes_a_bounded_number_of_steps() -> None:
    begin = datetime(2025, 1, 1, tzinfo=UTC)
    until = begin + timedelta(days=365)
    found, following = parse_schedule("* * * * * *", "UTC").between(begin, until)
    assert len(found) == MAX_STEPS
    assert found[-1] == begin + timedelta(seconds=MAX_STEPS)
    assert following == until + timedelta(seconds=1)


@pytest.mark.parametrize("count", [MAX_STEPS - 1, MAX_STEPS, MAX_STEPS + 1])
def test_at_the_bound_what_follows_is_right(count: int) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    until = begin + timedelta(seconds=count)
    found, following = parse_schedule("* * * * * *", "UTC").between(begin, until)
    assert len(found) == min(count, MAX_STEPS)
    assert following == until + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("alias", "day"),
    [("@daily", 24), ("@midnight", 24), ("@weekly", 29), ("@monthly", 1), ("@yearly", 1), ("@annually", 1)],
)
def test_aliases_mean_midnight_of_their_day(alias: str, day: int) -> None:
    following = parse_schedule(alias, BERLIN).next_after(datetime(2026, 11, 23, 12, tzinfo=UTC))
    local = following.astimezone(ZoneInfo(BERLIN))
    assert (local.day, local.hour, local.minute) == (day, 0, 0)
    assert parse_schedule(f" {alias.upper()} ", BERLIN).next_after(following) is not None


def test_hourly_is_every_hour() -> None:
    assert len(local_times("@hourly", BERLIN, "2026-10-25")) == 25


# What is refused, and what is said about it.


@pytest.mark.parametrize(
    ("expression", "name", "allowed"),
    [
        ("60 * * * *", "minute", "0-59"),
        ("* 24 * * *", "hour", "0-23"),
        ("* * 0 * *", "day of month", "1-31"),
        ("* * 32 * *", "day of month", "1-31"),
        ("* * * 13 *", "month", "1-12 or jan-dec"),
        ("* * * foo *", "month", "1-12 or jan-dec"),
        ("* * * * 8", "day of week", "0-7 or sun-sat"),
        ("60 * * * * *", "second", "0-59"),
        ("* 61 * * * *", "minute", "0-59"),
        ("*/0 * * * *", "minute", "0-59"),
        ("1, * * * *", "minute", "0-59"),
        ("1-2-3 * * * *", "minute", "0-59"),
        ("-1 * * * *", "minute", "0-59"),
        ("h * * * *", "minute", "0-59"),
        ("1,h * * * *", "minute", "0-59"),
        ("r(0-3) * * * *", "minute", "0-59"),
        ("* h(1-5) * * *", "hour", "0-23"),
        ("1_0 * * * *", "minute", "0-59"),
    ],
)
def test_a_bad_field_is_named_with_what_is_allowed(expression: str, name: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_schedule(expression, "UTC")
    assert caught.value.field == "schedule"
    assert caught.value.message.startswith(f"{name} ")
    assert f"allowed is {allowed}" in caught.value.message


@pytest.mark.parametrize("expression", ["", "*", "* * * *", "* * * * * * *", "every day"])
def test_a_wrong_number_of_fields_is_refused(expression: str) -> None:
    with pytest.raises(InvalidInput, match="use five"):
        parse_schedule(expression, "UTC")


def test_an_unknown_alias_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="unknown alias '@reboot'") as caught:
        parse_schedule("@reboot", "UTC")
    assert all(alias in caught.value.message for alias in ALIASES)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 0 31 4 *"])
def test_a_day_that_no_year_has_is_refused(expression: str) -> None:
    with pytest.raises(InvalidInput, match="never comes"):
        parse_schedule(expression, "UTC")


def test_an_overlong_expression_is_refused_without_being_read() -> None:
    with pytest.raises(InvalidInput, match="longer than 200"):
        parse_schedule("0," * 150 + "0 * * * *", "UTC")


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../../etc/passwd", "Europe", "Europe/Berlin\0", "x" * 5000]
)
def test_an_unknown_timezone_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_schedule("* * * * *", name)
    assert caught.value.field == "timezone"
    assert len(str(caught.value)) < 300
    with pytest.raises(InvalidInput):
        parse_timezone(name)


FIELD = st.text(alphabet="0123456789*,-/lw#?hr()janmo", min_size=1, max_size=6)


def parsed(expression: str) -> Schedule | None:
    """The schedule, or None when it is refused; any other error is a defect."""
    try:
        return parse_schedule(expression, "UTC")
    except InvalidInput:
        return None


@given(st.lists(st.one_of(st.just("*"), FIELD), min_size=5, max_size=6))
def test_any_expression_is_either_refused_or_has_occurrences_on_whole_seconds(fields: list[str]) -> None:
    schedule = parsed(" ".join(fields))
    if schedule is not None:
        following = schedule.next_after(datetime(2026, 1, 1, tzinfo=UTC))
        assert following is not None
        assert following.microsecond == 0


@given(st.text(max_size=30))
def test_no_text_is_taken_for_a_schedule_without_having_its_fields(text: str) -> None:
    schedule = parsed(text)
    assert schedule is None or len(text.split()) in (5, 6) or text.strip().lower() in ALIASES
