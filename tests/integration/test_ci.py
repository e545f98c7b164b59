"""What runs CI: steps of make, some side by side; and what it finds that they left behind."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".ci"
CLUSTER_TESTS = ROOT / "ansible/molecule/cluster/tests"
MAKEFILE = """
fine: ; @echo it went well
wrong: ; @echo it went wrong; exit 3
long: ; @echo it has begun; sleep 300
"""


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """The programs of CI import each other by name."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def runner(tmp_path, monkeypatch):
    import running

    (tmp_path / "Makefile").write_text(MAKEFILE)
    monkeypatch.chdir(tmp_path)
    return running.Runner(time.monotonic(), time.monotonic() + 60, tmp_path, dict(os.environ))


def step(targets, minutes=1.0):
    import running

    return running.Step(targets, minutes)


def test_a_step_that_fails_keeps_no_other_from_being_run_and_all_they_print_is_shown(runner, capfd):
    runner.run_all([step("wrong"), step("fine")])

    assert [(each.step.targets, bool(each.wrong)) for each in runner.ended] == [
        ("wrong", True),
        ("fine", False),
    ]
    printed = capfd.readouterr().out
    assert (
        printed.index("it went wrong") < printed.index("make wrong: failed") < printed.index("it went well")
    )


def test_a_step_that_hangs_is_cut_off_with_all_that_it_started(runner, tmp_path, capfd):
    import processes

    assert not runner.run(step("long", minutes=0.1))

    assert "cut off" in runner.ended[0].wrong
    assert "it has begun" in capfd.readouterr().out
    assert not processes.left(tmp_path, set(), 5)


def test_the_time_that_is_left_for_all_steps_cuts_one_off_and_lets_no_other_begin(runner):
    runner.deadline = time.monotonic() + 3
    runner.run_all([step("long"), step("fine")])

    assert "cut off" in runner.ended[0].wrong
    assert "not begun" in runner.ended[1].wrong


def test_when_ci_is_told_to_stop_what_runs_ends_and_nothing_else_begins(runner, tmp_path):
    steps = threading.Thread(target=runner.run_all, args=[[step("long"), step("fine")]])
    steps.start()
    log = tmp_path / "long.log"
    while not (log.exists() and "it has begun" in log.read_text()):
        time.sleep(0.05)
    runner.stop()
    steps.join(20)

    assert ["failed" in runner.ended[0].wrong, "not begun" in runner.ended[1].wrong] == [True, True]


def test_what_works_in_the_checkout_or_was_started_from_it_is_found_until_it_ends(tmp_path):
    import processes

    checkout = tmp_path / "checkout"
    checkout.mkdir()
    sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
    inside = subprocess.Popen(sleep, cwd=checkout)
    named = subprocess.Popen([*sleep, str(checkout)])
    given = subprocess.Popen(sleep, env={**os.environ, "SOME_PATH": f"{checkout}/bin"})
    elsewhere = subprocess.Popen(sleep, cwd=tmp_path)
    started = [inside, named, given, elsewhere]
    try:
        assert processes.left(checkout, {inside.pid}, 0) == {named.pid, given.pid}
        threading.Timer(0.5, lambda: [each.kill() or each.wait() for each in (named, given)]).start()
        assert processes.left(checkout, {inside.pid}, 10) == set()
    finally:
        for each in started:
            each.kill()
            each.wait()


def test_a_commit_decides_share_and_seed_and_commits_differ():
    import steps

    commits = [f"{number:040x}" for number in range(300)]
    choices = [steps.Choice.of(commit) for commit in commits]

    assert choices == [steps.Choice.of(commit) for commit in commits]
    assert len({choice.first_seed for choice in choices}) == len(commits)
    shares = Counter(choice.share for choice in choices)
    assert set(shares) == set(steps.SHARES) and min(shares.values()) > 60


@pytest.mark.parametrize(
    ("variable", "value"), [("CI_SHARE", "4"), ("CI_SHARE", "1/3"), ("CI_FIRST_SEED", "0x1f")]
)
def test_a_share_or_seed_that_cannot_be_is_refused_by_its_name(variable, value):
    import steps

    with pytest.raises(ValueError, match=f"{variable} is '{value}'"):
        steps.Choice.of("").changed_by({variable: value})


def scenarios(**environment):
    command = [ROOT / "ansible/molecule.sh", "list"]
    given = {name: value for name, value in os.environ.items() if name != "DCRON_TEST_SHARE"} | environment
    return subprocess.run(command, env=given, check=True, capture_output=True, text=True).stdout.split()


def test_what_takes_turns_on_hosts_has_its_turn():
    import steps

    every, turns = scenarios(), [scenarios(DCRON_TEST_SHARE=share) for share in steps.SHARES]
    assert Counter(every) == Counter(set().union(*turns))
    assert all("cluster" in turn and len(turn) < len(every) for turn in turns)

    source = ast.parse((CLUSTER_TESTS / "conftest.py").read_text())
    values = {
        ast.unparse(node.targets[0]): node.value for node in source.body if isinstance(node, ast.Assign)
    }
    share_of = ast.literal_eval(values["SHARE_OF"])
    assert set(share_of.values()) == set(steps.SHARES)
    assert all((CLUSTER_TESTS / name).exists() for name in share_of)
