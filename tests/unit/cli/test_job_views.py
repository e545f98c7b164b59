from __future__ import annotations

import pytest

from dcron.cli import job_views
from dcron.rpc import dcron_pb2 as pb

JOB = pb.Job(
    name="backup",
    specification=pb.Specification(
        schedule="@daily",
        interpreter="sh",
        arguments=["a b", "c"],
        labels={"zone": "north"},
        max_attempts=4,
        failure_retries=0,
    ),
)


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("interpreter", "interpreter sh"),
        ("max_attempts", "max attempts 4"),
        ("arguments", "arguments 'a b' c"),
        ("labels", "labels zone=north"),
    ],
)
def test_a_field_without_words_of_its_own_is_shown_as_it_is(
    field: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job_views, "SHOWN", job_views.SHOWN - {field})
    job_views.print_job(JOB)
    lines = [" ".join(each.split()) for each in capsys.readouterr().out.splitlines()]
    assert line in lines


def test_a_field_with_words_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    job_views.print_job(JOB)
    shown = capsys.readouterr().out
    assert "attempts at most" in shown
    assert "max attempts" not in shown
