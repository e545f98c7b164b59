"""The spool keeps what was begun through crashes, and gives nothing away half-made."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dcron.domain.errors import SetupError, SpoolFull
from dcron.domain.model import State
from dcron.services.worker.spool import Spool
from tests.doubles import sample_claim, sample_outcome
from tests.service_doubles import an_attempt

EXECUTION = an_attempt().execution_id


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool")
    spool.open()
    yield spool
    spool.close()


def reopened(spool: Spool) -> Spool:
    spool.close()
    again = Spool(spool.folder)
    again.open()
    return again


def test_claims_and_outcomes_come_back_as_they_were(spool):
    claim = sample_claim(EXECUTION, "token")
    outcome = sample_outcome(EXECUTION, "token", State.FAILED)
    [entry] = spool.add([claim])
    spool.finish(entry, outcome)
    again = reopened(spool)
    [found] = again.entries()
    assert found.claim == claim
    assert again.outcome(found) == outcome
    again.close()


def test_an_attempt_that_has_ended_comes_back_with_its_outcome_or_not_at_all(spool, monkeypatch):
    claim, outcome = sample_claim(EXECUTION, "token"), sample_outcome(EXECUTION, "token", State.LOST)
    write = Path.write_text
    for last in (1, 2):
        taken: list[Path] = []

        def limited(path, text, taken=taken, last=last):
            taken.append(path)
            if len(taken) == last:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(path, text)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", limited)
            with pytest.raises(SpoolFull):
                spool.add_ended(claim, outcome)
        assert list((spool.folder / "attempts").iterdir()) == []
    spool.add_ended(claim, outcome)
    again = reopened(spool)
    [found] = again.entries()
    assert (found.claim, again.outcome(found)) == (claim, outcome)
    with pytest.raises(SpoolFull):
        again.add_ended(claim, outcome)
    assert again.entries() == [found]
    again.close()


def test_a_folder_belongs_to_one_node_at_a_time(spool):
    other = Spool(spool.folder)
    with pytest.raises(SetupError, match="in use by another"):
        other.open()
    spool.close()
    other.open()
    other.close()


def test_a_folder_that_cannot_be_written_is_a_set_up_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot be used"):
        Spool(tmp_path / "file" / "spool").open()


def test_its_id_stays_with_the_folder(spool):
    drawn = spool.id
    again = reopened(spool)
    assert again.id == drawn
    again.close()


def test_an_id_that_a_power_cut_emptied_is_drawn_anew(spool):
    (spool.folder / "id").write_text("")
    again = reopened(spool)
    assert again.id and again.id != spool.id
    again.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_no_more_notes_none_of_a_batch(spool, monkeypatch, number):
    write = Path.write_text
    taken = []

    def limited(path, text):
        taken.append(path)
        if len(taken) == 2:
            raise OSError(number, os.strerror(number))
        write(path, text)

    monkeypatch.setattr(Path, "write_text", limited)
    claims = [sample_claim(an_attempt(at).execution_id, f"token{at}") for at in range(3)]
    with pytest.raises(SpoolFull):
        spool.add(claims)
    assert spool.entries() == []
    assert list((spool.folder / "attempts").iterdir()) == []


def test_adding_an_attempt_again_leaves_the_first_one_alone(spool):
    [entry] = spool.add([sample_claim(EXECUTION, "token")])
    entry.log_path.write_bytes(b"precious")
    with pytest.raises(SpoolFull):
        spool.add([sample_claim(EXECUTION, "other"), sample_claim(EXECUTION, "token")])
    assert entry.log_path.read_bytes() == b"precious"
    assert [each.claim.token for each in spool.entries()] == ["token"]


@pytest.mark.parametrize("body", [None, "", "{", "[1]"])
def test_a_half_made_attempt_is_removed(spool, body):
    folder = spool.folder / "attempts" / f"{EXECUTION}:half"
    folder.mkdir()
    if body is not None:
        (folder / "attempt.json").write_text(body)
    [entry] = spool.add([sample_claim(EXECUTION, "whole")])
    assert spool.entries() == [entry]
    assert not folder.exists()


def test_a_half_written_outcome_counts_as_none(spool):
    [entry] = spool.add([sample_claim(EXECUTION, "token")])
    (entry.folder / "outcome.json").write_text('{"kind": "outc')
    assert spool.outcome(entry) is None


def test_a_crash_in_the_middle_of_a_removal_leaves_no_attempt_without_its_outcome(spool, monkeypatch):
    [entry] = spool.add([sample_claim(EXECUTION, "token")])
    spool.finish(entry, sample_outcome(EXECUTION, "token", State.FAILED))

    def crash(folder):
        raise OSError(errno.EIO, "cut short")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rmdir", crash)
        with pytest.raises(OSError, match="cut short"):
            spool.remove(entry)
    assert not entry.folder.exists()
    assert list((spool.folder / "delivered").iterdir())
    assert spool.entries() == []
    assert not list((spool.folder / "delivered").iterdir())


def test_what_cannot_be_removed_does_not_keep_a_node_from_starting(spool):
    (spool.folder / "attempts" / "stray").write_text("not a folder")
    [entry] = spool.add([sample_claim(EXECUTION, "token")])
    assert spool.entries() == [entry]


def test_removing_twice_says_so(spool):
    [entry] = spool.add([sample_claim(EXECUTION, "token")])
    spool.remove(entry)
    with pytest.raises(FileNotFoundError):
        spool.remove(entry)


def test_an_attempt_is_removed_with_whatever_else_lies_in_its_folder(spool):
    [entry] = spool.add([sample_claim(EXECUTION, "token")])
    (entry.folder / "more").mkdir()
    (entry.folder / "more" / "file").touch()
    spool.remove(entry)
    assert not list((spool.folder / "attempts").iterdir())
    assert not list((spool.folder / "delivered").iterdir())
