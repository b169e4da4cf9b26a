"""How a run ends that is told to: with nothing left of what it has started, made or mounted."""

import signal
import sys
from types import FrameType

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def in_good_order() -> None:
    """Let a signal that ends raise SystemExit, so that each ``with`` and ``finally`` does its part.

    Whoever is told again meanwhile goes on with that: a terminal tells all processes of a run, and their parent tells
    them too. What is started has the defaults again, even where a shell lets background jobs ignore SIGINT; a SIGHUP
    that is ignored stays so, as nohup wants it.
    """
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    for further in SIGNALS:
        signal.signal(further, signal.SIG_IGN)
    sys.exit(128 + number)
