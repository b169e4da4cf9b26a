"""Repeated trouble: how long to wait, and what to log."""

import logging

import pytest

from django_vtasks.worker.outage import FIRST_DELAY, LONGEST_DELAY, Outage


def longest(low, high):
    return high


def shortest(low, high):
    return low


def test_delays_double_up_to_the_longest():
    outage = Outage("knock", uniform=longest)
    delays = [outage.failed(OSError("closed")) for _ in range(9)]

    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])


def test_half_of_a_delay_is_at_random():
    outage = Outage("knock", uniform=shortest)

    assert [outage.failed(OSError()) for _ in range(3)] == pytest.approx([0.05, 0.1, 0.2])


def test_ten_thousand_failures_overflow_nothing():
    outage = Outage("knock")

    assert all(FIRST_DELAY / 2 <= outage.failed(OSError()) <= LONGEST_DELAY for _ in range(10_000))


def test_the_first_failure_is_logged_with_its_traceback_and_the_others_in_one_line(caplog):
    outage = Outage("knock", uniform=shortest)
    for _ in range(3):
        outage.failed(OSError("closed\nDETAIL: for ever"))

    first, second, third = caplog.records
    assert (first.levelno, first.getMessage()) == (logging.ERROR, "Cannot knock; trying again until it works")
    assert first.exc_info
    assert isinstance(first.exc_info[1], OSError)
    for record, count in ((second, 2), (third, 3)):
        assert (record.levelno, record.getMessage()) == (
            logging.WARNING,
            f"Still cannot knock ({count} failures): closed",
        )
        assert not record.exc_info


def test_a_failure_that_has_been_logged_already_is_one_line_from_the_first(caplog):
    Outage("knock", known=True, uniform=shortest).failed(OSError("closed"))

    [record] = caplog.records
    assert (record.getMessage(), record.exc_info) == ("Still cannot knock (1 failures): closed", None)


def test_a_failure_without_words_is_logged_too(caplog):
    outage = Outage("knock", uniform=shortest)
    outage.failed(OSError())
    outage.failed(OSError())

    assert "OSError" in caplog.records[1].getMessage()


def test_a_success_ends_the_outage_once(caplog):
    caplog.set_level(logging.INFO)
    outage = Outage("knock", uniform=longest)
    assert not outage.over()
    outage.failed(OSError())
    outage.failed(OSError())

    assert outage.over()
    assert caplog.records[-1].getMessage() == "Can knock again after 2 failures"
    assert not outage.over()
    assert outage.failed(OSError()) == pytest.approx(FIRST_DELAY)
