"""What a measurement waits for, on a clock that waits for nobody."""

import array
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from load_tests.bench import bout as bouts
from load_tests.bench import contender, others
from load_tests.bench.bout import PATIENCE, Bout, StalledError
from load_tests.bench.records import Exactness, Run
from load_tests.bench.scenarios import Drain
from load_tests.bench.stores import SQLite


class Watched(Bout):
    """A bout whose workers begin tasks at given seconds; no process is started."""

    def __init__(self, directory, moments=(), *, share=1.0, who="vtasks"):
        super().__init__(contender.load(who), Path("python"), SQLite(None), seed=0, share=share)
        self.records = self._directory = directory
        self.moments, self.now, self.numbers = list(moments), 0.0, [0] * len(moments)
        self.filled, self.starts, self._environ = [], 0, {}
        workers: Any = SimpleNamespace(
            have_ended=lambda: False, last_words=lambda: "last words", pss=lambda: (1.0, 1), cpu_seconds=lambda: 0.0
        )
        producer: Any = SimpleNamespace(ask=lambda *_, **__: {"count": 5, "rate": 5.0})
        self.workers, self.producer = workers, producer

    def fill(self, task, count, first=0, seconds=0.0):
        self.filled.append((count, first))
        return count

    def start(self, *_, **__):
        self.starts += 1
        return self.workers

    def sleep(self, seconds):
        self.now += seconds
        begun = [(number, at) for number, at in zip(self.numbers, self.moments, strict=True) if at <= self.now]
        (self.records / "1.runs").write_bytes(array.array("d", chain.from_iterable(begun)).tobytes())


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


def test_a_task_of_a_number_is_waited_for(watch):
    bout = watch([1.0, 2.0])
    bout.numbers = [7, 3]
    bout.wait_until_begun(3)
    assert bout.now == pytest.approx(2.0, abs=0.1)


def test_a_task_that_does_not_begin_among_others_is_an_error(watch):
    bout = watch([1.0])
    with pytest.raises(StalledError, match=r"Task 1,234 has not begun.\nlast words"):
        bout.wait_until_begun(1234)
    assert bout.now == pytest.approx(PATIENCE, abs=0.1)


@pytest.mark.parametrize(
    ("name", "first", "starts", "found"),
    [
        ("vtasks", Exactness(0, 0), 2, Exactness(0, 3)),
        (contender.BASELINE, Exactness(0, 0), 2, Exactness(0, 3)),
        ("vtasks", Exactness(1, 0), 1, Exactness(1, 0)),
        ("vtasks", Exactness(0, 1), 1, Exactness(0, 1)),
        ("rq", Exactness(0, 0), 1, Exactness(0, 0)),
    ],
)
def test_workers_start_anew_where_they_would_run_what_was_left(watch, name, first, starts, found):
    bout = watch([0.0, 0.0], who=name)
    bout.numbers = [0, 2]
    ends = iter([([Run(0, 0.0, 1), Run(1, 0.5, 1)], first), ([Run(2, 9.0, 2)], Exactness(0, 3))])
    bout.end = lambda _: next(ends)
    measured = Drain()(bout, 2)
    assert measured.exactness == found
    assert (measured.count, measured.figures) == (2, {"tasks/s": 2.0})  # of the first run alone
    assert bout.starts == starts
    assert bout.filled == [(2, 0), (1, 2)][:starts]


def test_whether_tasks_are_missing_is_unknown_where_the_time_was_too_short_for_all(watch):
    bout = watch([2.0 * n for n in range(20)], share=0.25)
    bout.end = lambda _: ([None] * 8, Exactness(12, 0))
    assert others.enqueue(bout, 0).exactness == Exactness(None, 0)


def test_tasks_are_missing_where_workers_stalled(watch):
    bout = watch([1.0], share=0.25)
    bout.end = lambda _: ([None], Exactness(19, 0))
    assert others.enqueue(bout, 0).exactness == Exactness(19, 0)


def test_a_long_queue_that_is_not_worked_off_has_no_rate(watch):
    with pytest.raises(StalledError, match=r"1 of 5 tasks ran.\nlast words"):
        others.backlog(10, watch([1.0]), 5)
