"""What trouble in one queue may cost another: part of its rate, and time for which its tasks wait."""

import time

from load_tests.chaos import account, queues
from load_tests.chaos.run import Run

COST = 0.1
"""The part of its rate."""
BEHIND = 1.0
"""Seconds by which a feeder may be late with what it makes up for afterwards."""
TIMES, SLACK = 2.0, 0.1
"""The 99th percentile of its waits may be so many times what it was, and so many seconds more, on a busy machine."""


def judge_rate(run: Run, queue: str, since: float, until: float | None = None) -> None:
    """Hold how many calls to a queue ended in some time, up to now, against how many were accepted.

    That is no fewer than a busy machine may let through: a producer must not be held up either.
    """
    events, until = run.ledger.events(), until or time.monotonic()
    asked = len(queues.accepted(events, queue, since, until))
    least = account.SLOWER * run.usual_of[queue] * max(0.0, until - since - BEHIND)
    run.expect(asked >= least, f"queue {queue} took in {asked} meanwhile, and {least:.0f} at least were to be")
    ended = queues.ended(events, queue, since, until)
    run.facts |= {"asked of the other queue": asked, "ended there": ended}
    run.expect(asked and ended >= (1 - COST) * asked, f"queue {queue} ended {ended} of {asked} meanwhile")


def judge_waits(run: Run, queue: str, since: float, until: float) -> None:
    """Hold for how long calls to a queue waited in some time against for how long they waited before."""
    events = run.ledger.events()
    spans = queues.waits(events, queue, 0.0, since), queues.waits(events, queue, since, until)
    run.expect(all(spans), f"nothing was enqueued to {queue} in one of the times")
    before, meanwhile = (queues.share(waits, 0.99) for waits in spans)
    run.facts |= {"p99 wait before": round(before, 3), "p99 wait meanwhile": round(meanwhile, 3)}
    run.expect(
        meanwhile <= before * TIMES + SLACK,
        f"others wait {meanwhile:.2f} s at the 99th percentile, {before:.2f} before",
    )
