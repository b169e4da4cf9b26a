"""When a loop stays awake for an answer, and when it does not."""

import pytest

from django_vtasks.brokers.valkey.spin import AT_MOST, MOST_SKIPPED, Spin


class Loop:
    """An event loop whose clock goes on by ``turn`` seconds with each turn."""

    def __init__(self):
        self.now = 100.0
        self.turn = AT_MOST / 10
        self.soon = []

    def clock(self):
        return self.now

    def call_soon(self, callback):
        self.soon.append(callback)

    def run(self, turns=1000):
        """Turn until there is nothing to do; return how often."""
        for count in range(turns):
            if not self.soon:
                return count
            self.now += self.turn
            callbacks, self.soon = self.soon, []
            for callback in callbacks:
                callback()
        raise AssertionError("it never goes to sleep")


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def spinning(loop):
    return Spin(loop, loop.clock)


def sends_until_it_is_awake(spinning, loop):
    for count in range(1, 10 * MOST_SKIPPED):
        spinning.begin()
        if loop.run():
            return count
    raise AssertionError("it never tries again")


def test_it_stays_awake_until_the_answer_is_here(loop, spinning):
    spinning.begin()
    loop.call_soon(spinning.end)

    assert loop.run() == 2


def test_it_goes_to_sleep_when_the_time_is_over(loop, spinning):
    spinning.begin()

    assert 9 <= loop.run() <= 12


def test_two_sends_do_not_turn_it_twice_as_often(loop, spinning):
    spinning.begin()
    spinning.begin()

    assert len(loop.soon) == 1


def test_a_server_that_takes_longer_is_tried_ever_more_seldom(loop, spinning):
    waits = [sends_until_it_is_awake(spinning, loop) for _ in range(12)]

    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == MOST_SKIPPED + 1


def test_one_that_answers_at_once_again_is_waited_for_from_then_on(loop, spinning):
    for _ in range(5):
        sends_until_it_is_awake(spinning, loop)
    while not loop.soon:
        spinning.begin()
    loop.call_soon(spinning.end)
    loop.run()

    assert sends_until_it_is_awake(spinning, loop) == 1


def test_a_loop_that_has_much_to_do_says_nothing_of_the_server(loop, spinning):
    loop.turn = 2 * AT_MOST
    for _ in range(10):
        spinning.begin()
        assert loop.run() == 1
