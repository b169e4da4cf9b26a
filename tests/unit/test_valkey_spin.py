"""When a loop stays awake for an answer, and when it does not."""

import pytest

from django_vtasks.brokers.valkey.spin import AT_MOST, BETWEEN, TRIAL, Spin

STEP = AT_MOST / 20
"""Seconds of a turn."""


class Loop:
    """An event loop with a clock and a server: an answer comes some time after a send, and later if nobody is awake."""

    def __init__(self, answers_after, wakes_after):
        self.now = 100.0
        self.answers_after = answers_after
        self.wakes_after = wakes_after
        self.soon = []
        self.spin = Spin(self, lambda: self.now)  # type: ignore[arg-type] # all that it needs of a loop is here

    def call_soon(self, callback):
        self.soon.append(callback)

    def send(self):
        """Send, and return how often the loop has turned before the answer was there, and how long that took."""
        began, turns = self.now, 0
        answer_at = began + self.answers_after
        self.spin.begin()
        while self.soon and self.now < answer_at:
            self.now += STEP
            turns += 1
            self.turn()
        if not self.soon:  # asleep
            self.now = max(self.now, answer_at) + self.wakes_after
        self.spin.end()
        took = self.now - began
        self.turn()
        assert self.soon == [], "it goes on turning"
        return turns, took

    def turn(self):
        callbacks, self.soon = self.soon, []
        for callback in callbacks:
            callback()

    def stays_awake(self):
        """Tell whether it does outside of trials."""
        for _ in range(TRIAL):
            self.send()
        turns = [self.send()[0] > 0 for _ in range(BETWEEN)]
        assert len(set(turns)) == 1
        return turns[0]


@pytest.fixture
def near():
    """Give a loop whose server answers sooner than a sleeper wakes."""
    return Loop(answers_after=AT_MOST / 4, wakes_after=AT_MOST / 4)


def test_a_trial_tries_both_ways(near):
    assert [near.send()[0] > 0 for _ in range(TRIAL)] == [False, True] * (TRIAL // 2)


def test_it_stays_awake_where_to_be_woken_takes_long(near):
    assert near.stays_awake()
    assert near.send()[1] == pytest.approx(AT_MOST / 2)  # the next trial begins asleep
    assert near.send()[1] == pytest.approx(AT_MOST / 4)


def test_it_sleeps_where_that_takes_no_longer():
    assert not Loop(answers_after=AT_MOST / 4, wakes_after=0.0).stays_awake()


def test_it_sleeps_where_the_server_is_too_far_away():
    assert not Loop(answers_after=3 * AT_MOST, wakes_after=AT_MOST / 4).stays_awake()


def test_it_is_awake_for_no_longer_than_it_may_be():
    loop = Loop(answers_after=3 * AT_MOST, wakes_after=AT_MOST / 4)

    assert max(loop.send()[0] for _ in range(TRIAL)) * STEP <= AT_MOST + 2 * STEP


def test_it_changes_its_mind_when_the_server_moves(near):
    assert near.stays_awake()
    near.answers_after = 3 * AT_MOST
    assert not [near.stays_awake() for _ in range(5)][-1]
    near.answers_after = AT_MOST / 4
    assert [near.stays_awake() for _ in range(5)][-1]


def test_one_late_answer_changes_nothing(near):
    for _ in range(3):
        near.stays_awake()
    near.send()
    near.answers_after = 100 * AT_MOST
    near.send()
    near.answers_after = AT_MOST / 4
    for _ in range(TRIAL - 2):
        near.send()

    assert near.send()[0] > 0
