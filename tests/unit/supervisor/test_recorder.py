"""The page that a child writes and its supervisor reads."""

import pytest

from vtasks_supervisor.recorder import Recorder


@pytest.fixture
def recorder():
    recorder = Recorder(entries=3, width=8)
    yield recorder
    recorder.close()


def test_notes_stand_until_they_are_wiped(recorder):
    recorder.note(0, b"zero")
    recorder.note(2, b"two")
    assert recorder.notes() == [b"zero", b"two"]
    recorder.wipe(0)

    assert recorder.notes() == [b"two"]


def test_a_shorter_note_leaves_nothing_of_a_longer_one(recorder):
    recorder.note(0, b"12345678")
    recorder.note(0, b"ab")
    recorder.note(1, b"12345678")
    recorder.wipe(1)
    recorder.note(1, b"cd")

    assert recorder.notes() == [b"ab", b"cd"]


def test_a_note_that_is_too_long_is_cut_and_spares_its_neighbour(recorder):
    recorder.note(1, b"neighbour"[:8])
    recorder.note(0, b"123456789")

    assert recorder.notes() == [b"12345678", b"neighbou"]


def test_there_is_no_entry_beyond_the_last(recorder):
    with pytest.raises(IndexError):
        recorder.note(3, b"three")


def test_it_can_be_closed_twice(recorder):
    recorder.close()
    recorder.close()


def test_it_does_without_memory_files(monkeypatch):
    monkeypatch.delattr("os.memfd_create")
    recorder = Recorder(entries=1, width=8)
    recorder.note(0, b"one")

    assert recorder.notes() == [b"one"]
    recorder.close()
