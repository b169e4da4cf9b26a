"""What would be said over and over is said once a minute."""

import logging

from django_vtasks.brokers.seldom import EVERY, Seldom


def test_a_warning_that_comes_over_and_over_is_said_once_a_minute_with_how_often_it_came(caplog):
    now = 0.0
    seldom = Seldom(logging.getLogger(__name__), monotonic=lambda: now)

    for number in range(5):
        seldom.warning("No %s", number)
    assert caplog.messages == ["No 0"]
    now += EVERY
    seldom.warning("No %s", "more")
    now += EVERY
    seldom.warning("No %s", "end")

    assert caplog.messages == ["No 0", "No more (and 4 times since it was last said)", "No end"]
