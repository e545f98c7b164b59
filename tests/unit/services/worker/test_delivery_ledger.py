"""A node remembers what it delivered: through restarts, power cuts and full disks, within a bound."""

from __future__ import annotations

import errno
import os

import pytest

from dcron.services.worker import delivery_ledger
from dcron.services.worker.delivery_ledger import DeliveryLedger

CAPACITY = 16
CHUNK = 4
RECENT = 3
RECORD_BYTES = 32


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(delivery_ledger, "CAPACITY", CAPACITY)
    monkeypatch.setattr(delivery_ledger, "CHUNK", CHUNK)
    monkeypatch.setattr(delivery_ledger, "RECENT", RECENT)


def opened(folder) -> DeliveryLedger:
    ledger = DeliveryLedger(folder / "deliveries")
    ledger.open()
    return ledger


@pytest.fixture
def ledger(tmp_path):
    ledger = opened(tmp_path)
    yield ledger
    ledger.close()


def tokens(first: int, after_last: int) -> list[str]:
    return [f"{number:016x}" for number in range(first, after_last)]


def test_a_new_one_knows_of_nothing(ledger):
    assert ledger.among(tokens(0, 3)) == frozenset()


@pytest.mark.parametrize("count", [1, RECENT, RECENT + 1, CAPACITY])
def test_what_was_noted_is_known_and_nothing_else(ledger, tmp_path, count):
    ledger.note(tokens(0, count))
    assert ledger.among(tokens(0, 2 * CAPACITY)) == frozenset(tokens(0, count))
    again = opened(tmp_path)
    assert again.among(tokens(0, 2 * CAPACITY)) == frozenset(tokens(0, count))
    again.close()


@pytest.mark.parametrize("batches", [[1] * 40, [7, 3, 16, 5, 9], [16, 16, 8]])
def test_the_newest_are_known_however_many_there_were(tmp_path, batches):
    noted = 0
    for count in batches:
        ledger = opened(tmp_path)
        ledger.note(tokens(noted, noted + count))
        noted += count
        assert ledger.among(tokens(0, noted)) == frozenset(tokens(max(noted - CAPACITY, 0), noted))
        ledger.close()
    ledger = opened(tmp_path)
    assert ledger.among(tokens(0, noted)) == frozenset(tokens(noted - CAPACITY, noted))
    ledger.close()


def test_the_file_never_outgrows_its_bound(ledger, tmp_path):
    for number in range(5 * CAPACITY):
        ledger.note(tokens(number, number + 1))
    assert (tmp_path / "deliveries").stat().st_size == CAPACITY * RECORD_BYTES


def test_noting_once_more_harms_nothing(ledger):
    ledger.note(tokens(0, 2))
    ledger.note(tokens(0, 3))
    assert ledger.among(tokens(0, 4)) == frozenset(tokens(0, 3))


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_room_was_taken_before_the_disk_was_full(ledger, monkeypatch):
    ledger.note(tokens(0, 1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        ledger.note(tokens(1, 3))
        with pytest.raises(OSError, match="No space left"):
            ledger.note(tokens(3, 20))
    ledger.note(tokens(3, 5))
    assert ledger.among(tokens(0, 5)) == frozenset(tokens(0, 5))


def test_a_full_disk_does_not_keep_it_from_being_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", full)
    ledger = opened(tmp_path)
    assert ledger.among(["t"]) == frozenset()
    ledger.close()


@pytest.mark.parametrize("torn", [b"", b"\x00" * 40, b"\xff" * 32, b"\x01" * 13])
def test_a_record_that_a_power_cut_spoilt_costs_no_other(tmp_path, torn):
    ledger = opened(tmp_path)
    ledger.note(tokens(0, 5))
    ledger.close()
    path = tmp_path / "deliveries"
    path.write_bytes(path.read_bytes()[: 5 * RECORD_BYTES] + torn)
    for _ in range(2):
        again = opened(tmp_path)
        again.note(tokens(5, 6))
        assert again.among(tokens(0, 7)) == frozenset(tokens(0, 6))
        again.close()


def test_what_the_disk_did_not_take_is_an_error(ledger, monkeypatch):
    def fails(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(OSError, match="Input/output"):
        ledger.note(["t"])
