"""The rules that proto/dcron.proto is held to, each on a file that breaks it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("proto_lint", Path("proto/lint.py").resolve())
assert _SPEC is not None
assert _SPEC.loader is not None
lint = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(lint)

CLEAN = """
syntax = "proto3";
package dcron.v1;
// A service.
service Public {
  // A method.
  rpc GetJob(GetJobRequest) returns (Job);
  // Another one.
  rpc RunJob(RunJobRequest) returns (RunJobResponse);
}
// A resource.
message Job {
  // Its name.
  string name = 1;
}
// A question.
message GetJobRequest {
  // A name.
  string name = 1;
}
// A question.
message RunJobRequest {}
// An answer.
message RunJobResponse {}
// A choice.
enum JobState {
  // None.
  JOB_STATE_UNSPECIFIED = 0;
  // One.
  JOB_STATE_IDLE = 1;
}
"""


def found(tmp_path: Path, text: str) -> list[str]:
    source = tmp_path / "dcron.proto"
    source.write_text(text)
    return lint.findings(lint.file_of(source))


def test_the_interface_keeps_the_rules() -> None:
    assert lint.findings(lint.file_of(lint.SOURCE)) == []


def test_a_list_without_pages_is_named(tmp_path: Path) -> None:
    assert found(tmp_path, CLEAN.replace("RunJob", "ListJobs")) == [
        "Public.ListJobs: a list takes an int32 page_size and a string page_token (AIP-158)",
        "Public.ListJobs: a list returns a string next_page_token (AIP-158)",
    ]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (("", ""), None),
        (("JOB_STATE_IDLE", "IDLE"), "JobState.IDLE: a value begins with JOB_STATE_"),
        (
            ("JOB_STATE_UNSPECIFIED", "JOB_STATE_NONE"),
            "JobState.JOB_STATE_NONE: the value 0 is JOB_STATE_UNSPECIFIED",
        ),
        (("string name = 1", "string jobName = 1"), "Job.jobName: a field is named in lower_snake_case"),
        (("string name = 1", "double grace_seconds = 1"), "Job.grace_seconds: a span of time is"),
        (("string name = 1", "string due_at = 1"), "Job.due_at: an instant is"),
        (("message Job ", "message job_ "), "job_: a message is named in PascalCase"),
        (("(RunJobRequest)", "(GetJobRequest)"), "Public.RunJob: what it takes is named RunJobRequest"),
        (("(RunJobRequest)", "(GetJobRequest)"), "GetJobRequest: 2 methods take or return it"),
        (("(RunJobResponse)", "(RunJobRequest)"), "Public.RunJob: what it returns is a resource or named"),
        (("  // Its name.\n", ""), "Job.name: has no comment"),
        (("  // Another one.\n", ""), "Public.RunJob: has no comment"),
        (("// A choice.\n", ""), "JobState: has no comment"),
    ],
)
def test_each_breach_is_named(tmp_path: Path, change: tuple[str, str], finding: str | None) -> None:
    text = CLEAN.replace(*change, 1) if change[0] else CLEAN
    # A message that is renamed is so where it is used, or the file would not be one.
    text = text.replace("returns (Job)", "returns (job_)") if "job_" in text else text
    lines = found(tmp_path, text)
    if finding is None:
        assert lines == []
    else:
        assert any(line.startswith(finding) for line in lines), lines
