"""The keeper's ledger: nothing that was written is forgotten, and nothing half-written counts."""

from __future__ import annotations

import errno
import os

import pytest

from dcron.keeper import ledger as ledger_module
from dcron.keeper.ledger import LEDGER_NAME, Ledger


def opened(spool) -> Ledger:
    ledger = Ledger(spool)
    ledger.load()
    return ledger


def a_will(spool, token: str) -> dict[str, object]:
    folder = spool / token
    folder.mkdir(exist_ok=True)
    return {"token": token, "folder": str(folder), "timeout_seconds": 3.0}


def tokens(entries) -> list[object]:
    return [entry["token"] for entry in entries]


def test_the_next_keeper_knows_what_may_run_and_what_is_known_of_it(tmp_path):
    ledger = opened(tmp_path)
    ledger.will([a_will(tmp_path, "a"), a_will(tmp_path, "b"), a_will(tmp_path, "c")])
    ledger.began("a", {"pid": 7})
    ledger.dropped("b")
    ledger.ended({"c": {"token": "c", "exit_code": 3}})
    again = opened(tmp_path)
    [entry] = again.open_entries()
    assert (entry["token"], entry["pid"], entry["timeout_seconds"]) == ("a", 7, 3.0)
    assert tokens(again.ended_entries()) == ["c"]
    assert again.end_of("c") == {"token": "c", "exit_code": 3}
    assert again.end_of("a") is None


def test_an_end_that_is_told_again_stays_as_it_was(tmp_path):
    ledger = opened(tmp_path)
    ledger.will([a_will(tmp_path, "a")])
    ledger.ended({"a": {"token": "a", "exit_code": 3}})
    ledger.ended({"a": {"token": "a", "exit_code": 4}})
    assert opened(tmp_path).end_of("a") == {"token": "a", "exit_code": 3}


@pytest.mark.parametrize("spoilt", ['{"fact":"ended","token":"a"', "\x00\x00", "[1]", '{"fact":"will"}', "7"])
def test_a_line_that_was_cut_off_spoils_no_other(tmp_path, spoilt):
    ledger = opened(tmp_path)
    ledger.will([a_will(tmp_path, "a")])
    with (tmp_path / LEDGER_NAME).open("a") as file:
        file.write("\n" + spoilt)
    ledger.will([a_will(tmp_path, "b")])
    assert tokens(opened(tmp_path).open_entries()) == ["a", "b"]


def test_what_a_full_disk_took_in_part_does_not_count(tmp_path, monkeypatch):
    ledger = opened(tmp_path)
    ledger.will([a_will(tmp_path, "a")])
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module.os, "write", lambda fd, data: write(fd, data[: len(data) - 5]))
        with pytest.raises(OSError, match="only part"):
            ledger.will([a_will(tmp_path, "b"), a_will(tmp_path, "c")])
    assert tokens(ledger.open_entries()) == ["a"]
    assert tokens(opened(tmp_path).open_entries()) == ["a"]


def test_a_disk_that_cannot_be_flushed_makes_no_promise(tmp_path, monkeypatch):
    ledger = opened(tmp_path)
    ledger.will([a_will(tmp_path, "a")])

    def refuse(descriptor):
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module.os, "fdatasync", refuse)
        with pytest.raises(OSError, match="input/output"):
            ledger.ended({"a": {"token": "a", "exit_code": 0}})
    assert ledger.end_of("a") is None
    assert tokens(opened(tmp_path).open_entries()) == ["a"]


def test_the_file_stays_small_and_keeps_what_was_not_delivered(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_module, "COMPACT_BYTES", 2_000)
    ledger = opened(tmp_path)
    ledger.will([a_will(tmp_path, "runs"), a_will(tmp_path, "spooled")])
    ledger.began("runs", {"pid": 7})
    ledger.ended({"spooled": {"token": "spooled", "exit_code": 3}})
    for number in range(200):
        token = f"token-{number}"
        ledger.will([a_will(tmp_path, token)])
        ledger.ended({token: {"token": token, "exit_code": 0}})
        (tmp_path / token).rmdir()
    assert (tmp_path / LEDGER_NAME).stat().st_size < 3_000
    again = opened(tmp_path)
    assert [(entry["token"], entry["pid"]) for entry in again.open_entries()] == [("runs", 7)]
    assert tokens(again.ended_entries()) == ["spooled"]


def test_without_room_for_a_new_file_the_old_one_goes_on(tmp_path, monkeypatch):
    ledger = opened(tmp_path)
    ledger.will([a_will(tmp_path, "a")])

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module.os, "fsync", refuse)
        again = opened(tmp_path)
    assert tokens(again.open_entries()) == ["a"]
    again.began("a", {"pid": 7})
    assert opened(tmp_path).open_entries()[0]["pid"] == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", LEDGER_NAME]
