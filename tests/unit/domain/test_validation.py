"""Bad input is refused with the field at fault, what is wrong, and what is allowed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcron.domain.errors import InvalidInput
from dcron.domain.model import Script, Specification
from dcron.domain.validation import (
    MAX_TEXT_BYTES,
    check_job_name,
    check_note,
    check_specification,
    is_job_name,
    shown,
)

SCRIPT = Script("0" * 64, 100, "backup.sh")
GOOD = Specification(
    schedule="0 3 * * *",
    script=SCRIPT,
    timezone="Europe/Berlin",
    interpreter="bash",
    arguments=("--all", "two words", "ünïcode", "line\nbreak"),
    environment={"HOME": "/", "_x1": "value with\nbreak"},
    labels={"zone": "eu-1", "disk/type": ""},
    timeout_seconds=30.5,
)


def check(specification: Specification) -> None:
    check_specification(specification, max_script_bytes=1000)


@pytest.mark.parametrize("name", ["a", "0", "backup", "a.b_c-d", "x" * 100])
def test_a_plain_name_is_a_jobs_name(name: str) -> None:
    check_job_name(name)
    assert is_job_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "A", ".a", "-a", "_a", "a b", "a/b", "a~", "x" * 101, "a\n", "a\x00", "ä", "a@1", "_design"],
)
def test_any_other_name_is_refused_in_one_printable_line(name: str) -> None:
    with pytest.raises(InvalidInput, match="a-z") as caught:
        check_job_name(name)
    assert caught.value.field == "name"
    assert str(caught.value).isprintable()


def test_a_good_specification_passes() -> None:
    check(GOOD)


@pytest.mark.parametrize("interpreter", ["", "python3", "/usr/bin/env", "/opt/my tools/run", "g++-12"])
def test_an_interpreter_is_a_program_name_or_an_absolute_path(interpreter: str) -> None:
    check(replace(GOOD, interpreter=interpreter))


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"schedule": "61 * * * *"}, "schedule", "minute"),
        ({"schedule": "* * *"}, "schedule", "five"),
        ({"timezone": "Mars/Olympus"}, "timezone", "unknown timezone"),
        ({"timezone": "../etc/passwd"}, "timezone", "unknown timezone"),
        ({"interpreter": "bin/sh"}, "interpreter", "absolute path"),
        ({"interpreter": "bash -e"}, "interpreter", "absolute path"),
        ({"interpreter": "-e"}, "interpreter", "absolute path"),
        ({"interpreter": "ba\x1bsh"}, "interpreter", "control"),
        ({"interpreter": "/" + "x" * 1024}, "interpreter", "1024"),
        ({"arguments": ("a\0b",)}, "arguments", "NUL"),
        ({"arguments": ("x",) * 1001}, "arguments", "1000"),
        ({"arguments": ("x" * (MAX_TEXT_BYTES + 1),)}, "arguments", "65536"),
        ({"environment": {"1A": ""}}, "environment", "name"),
        ({"environment": {"A-B": ""}}, "environment", "name"),
        ({"environment": {"A\n": ""}}, "environment", "name"),
        ({"environment": {"": ""}}, "environment", "name"),
        ({"environment": {"DCRON_JOB": "x"}}, "environment", "dcron itself"),
        ({"environment": {"A": "x\0"}}, "environment", "NUL"),
        ({"environment": {"A": "ü" * MAX_TEXT_BYTES}}, "environment", "65536"),
        ({"labels": {"": "x"}}, "labels", "key"),
        ({"labels": {"a b": "x"}}, "labels", "key"),
        ({"labels": {"a": "x,y"}}, "labels", "63"),
        ({"labels": {str(n): "" for n in range(65)}}, "labels", "64"),
        ({"timeout_seconds": -1.0}, "timeout", "0 to 604800"),
        ({"timeout_seconds": math.nan}, "timeout", "0 to 604800"),
        ({"timeout_seconds": math.inf}, "timeout", "0 to 604800"),
        ({"timeout_seconds": 604801.0}, "timeout", "0 means|0: no limit"),
        ({"grace_seconds": 3601.0}, "grace", "0 to 3600"),
        ({"max_attempts": 0}, "max_attempts", "1 to 100"),
        ({"max_attempts": 101}, "max_attempts", "1 to 100"),
        ({"failure_retries": -1}, "failure_retries", "0 to 100"),
        ({"failure_retries": 101}, "failure_retries", "0 to 100"),
        ({"script": replace(SCRIPT, sha256="A" * 64)}, "script", "lower-case"),
        ({"script": replace(SCRIPT, sha256="0" * 64 + "\n")}, "script", "lower-case"),
        ({"script": replace(SCRIPT, size_bytes=0)}, "script", "empty"),
        ({"script": replace(SCRIPT, size_bytes=-5)}, "script", "empty"),
        ({"script": replace(SCRIPT, size_bytes=1001)}, "script", "at most 1000"),
        ({"script": replace(SCRIPT, file_name="../x")}, "script", "without folders"),
        ({"script": replace(SCRIPT, file_name="..")}, "script", "without folders"),
        ({"script": replace(SCRIPT, file_name="a\tb")}, "script", "control"),
        ({"script": replace(SCRIPT, file_name="ü" * 128)}, "script", "255"),
    ],
)
def test_what_cannot_run_is_refused_by_field(change: dict[str, object], field: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        check(replace(GOOD, **change))
    assert caught.value.field == field
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "change",
    [
        {"timeout_seconds": 604800.0},
        {"grace_seconds": 0.0},
        {"max_attempts": 100},
        {"failure_retries": 100},
        {"script": replace(SCRIPT, size_bytes=1000)},
        {"arguments": ("x" * (MAX_TEXT_BYTES - 100),)},
    ],
)
def test_the_bounds_themselves_are_allowed(change: dict[str, object]) -> None:
    check(replace(GOOD, **change))


@given(st.text())
def test_whatever_is_shown_is_printable_and_short(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 80 * 10 + 3


@given(st.text(max_size=120))
def test_a_name_is_refused_exactly_when_it_is_none(name: str) -> None:
    try:
        check_job_name(name)
    except InvalidInput:
        assert not is_job_name(name)
    else:
        assert is_job_name(name)


def test_a_note_is_one_line_and_may_be_left_out_where_it_is_not_needed() -> None:
    check_note("reason", "", required=False)
    check_note("by", "Köln operator", required=True)
    for text in ("two\nlines", "\x9b31m", "x" * 501):
        with pytest.raises(InvalidInput, match="reason"):
            check_note("reason", text, required=False)
    with pytest.raises(InvalidInput, match="must not be empty"):
        check_note("by", "  ", required=True)
