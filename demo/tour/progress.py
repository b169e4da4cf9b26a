"""How far the tasks are: a line that changes in place on a terminal, else a line now and then."""

import os
import shutil
import time
from dataclasses import dataclass
from typing import TextIO

from django.conf import settings

from library.backend import backend
from library.models import Run

WIDTH = 30
STEP = 0.25
"""The part of the whole after which there is a new line, where lines do not change in place."""
SILENCE = 5.0
"""The seconds after which there is one anyway."""


@dataclass(frozen=True, slots=True)
class Status:
    """Numbers of tasks."""

    total: int
    ended: int
    failed: int
    waiting: int
    delayed: int
    running: int

    @property
    def left(self) -> int:
        """Return how many tasks the queues still hold."""
        return self.waiting + self.delayed + self.running


def look(total: int) -> Status:
    """Ask the broker and the journal."""
    broker = backend().broker
    # The queues before the journal: what ends in between is then seen twice, but never not at all.
    depths = [broker.depth(queue) for queue in settings.VTASKS_QUEUES]
    return Status(
        total=total,
        ended=Run.objects.count(),
        failed=broker.failed_count(),
        waiting=sum(depth.waiting for depth in depths),
        delayed=sum(depth.delayed for depth in depths),
        running=sum(depth.running for depth in depths),
    )


class Progress:
    """Shows one status after the other."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._in_place = output.isatty() and os.environ.get("TERM") != "dumb"
        self._shown: Status | None = None
        self._shown_at = 0.0

    def show(self, status: Status) -> None:
        """Show a status, if it is time."""
        if status == self._shown:
            return
        if self._in_place:
            self._output.write(f"\r{_line(status, shutil.get_terminal_size().columns - 1)}\033[K")
        elif self._is_time(status):
            self._output.write(f"  {_numbers(status)}\n")
        else:
            return
        self._output.flush()
        self._shown, self._shown_at = status, time.monotonic()

    def close(self) -> None:
        """Leave the line as it is."""
        if self._in_place and self._shown is not None:
            self._output.write("\n")
            self._output.flush()

    def _is_time(self, status: Status) -> bool:
        return (
            self._shown is None
            or status.ended - self._shown.ended >= STEP * status.total
            or status.left == 0
            or time.monotonic() - self._shown_at >= SILENCE
        )


def _line(status: Status, columns: int) -> str:
    """Return the numbers, with as much of a bar before them as there is room for."""
    numbers = _numbers(status)
    width = min(WIDTH, columns - len(numbers) - len("[]  "))
    filled = width * min(status.ended, status.total) // max(status.total, 1)
    return f"[{'#' * filled}{'.' * (width - filled)}]  {numbers}" if width > 0 else numbers[:columns]


def _numbers(status: Status) -> str:
    return (
        f"{status.ended:3} of {status.total} ended, {status.failed} failed; "
        f"{status.waiting} wait, {status.delayed} are delayed, {status.running} run"
    )
