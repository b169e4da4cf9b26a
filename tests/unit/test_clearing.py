"""How many rows each round of a clear deletes."""

import pytest

from django_vtasks.brokers.database.clearing import FEWEST, FIRST, ROUND, clear, paced

MOST = 10_000


class Table:
    """Rows that take so long to delete, one by one, by the clock of the test."""

    def __init__(self, count, seconds_a_row):
        self.left = count
        self.seconds_a_row = seconds_a_row
        self.now = 0.0
        self.rounds = []

    def clear(self, limit, place):
        cleared = min(limit, self.left)
        self.left -= cleared
        self.now += cleared * self.seconds_a_row
        self.rounds.append(cleared)
        return cleared, (1,) if self.left else None


@pytest.mark.parametrize("seconds_a_row", [1e-6, 5e-6, 20e-6, 100e-6])
def test_rounds_take_their_time_whatever_a_row_takes(seconds_a_row):
    table = Table(100_000, seconds_a_row)

    assert clear(table.clear, MOST, lambda: table.now) == 100_000

    assert table.rounds[0] == FIRST
    settled = table.rounds[-2]
    assert settled == MOST or settled * seconds_a_row == pytest.approx(ROUND, rel=0.01)


def test_a_round_never_has_more_than_the_database_takes():
    table = Table(5000, 1e-9)
    clear(table.clear, 1000, lambda: table.now)

    assert set(table.rounds) == {1000}


def test_a_clock_that_stands_still_does_no_harm():
    assert paced(1000, 0.0, MOST) == 2000


def test_however_slow_the_server_is_some_rows_go_in_each_round():
    assert paced(FEWEST, 10.0, MOST) == FEWEST
    assert paced(1000, 10.0, MOST) == 500


def test_a_round_that_found_less_says_nothing_about_the_pace():
    limits = []

    def find_few(limit, place):
        limits.append(limit)
        return 1, None if len(limits) == 3 else (1,)

    assert clear(find_few, MOST) == 3
    assert limits == [FIRST] * 3
