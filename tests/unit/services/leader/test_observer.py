"""The leader's log tells of silent nodes and of executions that need a person once for each change."""

from __future__ import annotations

from structlog.testing import capture_logs

from dcron.services.leader.observer import MAX_SAID, Observer


def test_each_change_is_said_once_and_what_was_so_from_the_start_is_not() -> None:
    observer = Observer()
    with capture_logs() as lines:
        observer.observe(frozenset("ab"), [])
        observer.observe(frozenset("ab"), [])
        assert not lines
        for _ in range(3):
            observer.observe(frozenset("a"), ["x"])
        observer.observe(frozenset("ac"), [])
        observer.observe(frozenset("ac"), ["x"])
    assert [(line["action"], line.get("seen") or line.get("execution")) for line in lines] == [
        ("watch", "b"),
        ("attention", "x"),
        ("watch", "c"),
        ("attention", "x"),
    ]


def test_the_lines_of_one_look_have_a_bound() -> None:
    with capture_logs() as lines:
        Observer().observe(frozenset(), [str(number) for number in range(MAX_SAID + 5)])
    assert len(lines) == MAX_SAID
