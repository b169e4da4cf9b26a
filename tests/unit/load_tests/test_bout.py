"""What a measurement waits for, on a clock that waits for nobody."""

import array
from pathlib import Path
from types import SimpleNamespace

import pytest

from load_tests.bench import bout as bouts
from load_tests.bench import contender, others
from load_tests.bench.bout import PATIENCE, Bout, StalledError
from load_tests.bench.records import Exactness
from load_tests.bench.stores import SQLite


class Watched(Bout):
    """A bout whose workers begin tasks at given seconds; no process is started."""

    def __init__(self, directory, moments=(), *, share=1.0):
        super().__init__(contender.load("vtasks"), Path("python"), SQLite(None), seed=0, share=share)
        self.records, self.moments, self.now = directory, list(moments), 0.0
        self.workers = SimpleNamespace(have_ended=lambda: False, last_words=lambda: "last words", stop=lambda: None)
        self.producer = SimpleNamespace(ask=lambda do, **_: {"count": 5, "rate": 5.0})

    def fill(self, task, count, first=0, seconds=0.0):
        return count

    def start(self, *_, **__):
        return self.workers

    def sleep(self, seconds):
        self.now += seconds
        begun = sum(moment <= self.now for moment in self.moments)
        (self.records / "1.runs").write_bytes(array.array("d", [0.0] * 2 * begun).tobytes())


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """Give a function that makes a bout, on a clock of its own."""

    def make(*args, **options):
        bout = Watched(tmp_path, *args, **options)
        monkeypatch.setattr(bouts, "time", SimpleNamespace(monotonic=lambda: bout.now, sleep=bout.sleep))
        return bout

    return make


def test_a_wait_ends_when_enough_tasks_have_begun(watch):
    bout = watch([1.0, 2.0])
    assert bout.wait_for(2)
    assert bout.now == pytest.approx(2.0, abs=0.1)


def test_workers_that_begin_nothing_more_have_stalled(watch):
    bout = watch([1.0])
    assert not bout.wait_for(2)
    assert bout.has_stalled
    assert bout.now == pytest.approx(1.0 + PATIENCE, abs=0.1)


def test_of_a_short_wait_a_third_in_which_nothing_begins_is_a_stall(watch):
    bout = watch([1.0, 2.0])
    assert not bout.wait_for(3, within=15.0)
    assert bout.has_stalled
    assert bout.now == pytest.approx(7.0, abs=0.1)


def test_workers_that_go_on_until_the_wait_is_over_have_not_stalled(watch):
    bout = watch([2.0 * n for n in range(20)])
    assert not bout.wait_for(20, within=15.0)
    assert not bout.has_stalled
    assert bout.now == pytest.approx(15.0, abs=0.1)


def test_whether_tasks_are_missing_is_unknown_where_the_time_was_too_short_for_all(watch):
    bout = watch([2.0 * n for n in range(20)], share=0.25)
    bout.end = lambda expected: ([None] * 8, Exactness(12, 0))
    assert others.enqueue(bout, 0).exactness == Exactness(None, 0)


def test_tasks_are_missing_where_workers_stalled(watch):
    bout = watch([1.0], share=0.25)
    bout.end = lambda expected: ([None], Exactness(19, 0))
    assert others.enqueue(bout, 0).exactness == Exactness(19, 0)


def test_a_long_queue_that_is_not_worked_off_has_no_rate(watch):
    with pytest.raises(StalledError, match=r"1 of 5 tasks ran.\nlast words"):
        others.backlog(10, watch([1.0]), 5)
