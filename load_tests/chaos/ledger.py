"""Who did what and when: lines in files outside the store under fault, one file for each process that writes."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

VARIABLE = "CHAOS_LEDGER"
ADDED = "wave"
"""The field of an envelope that the newer of two versions has."""


class Event(NamedTuple):
    """Something that happened to the call ``key``, whose task has the id ``id`` if it is known.

    ``at`` is in seconds of the machine's monotonic clock, which all its processes share and nobody sets.
    """

    kind: str
    key: str
    at: float
    pid: int
    id: str = ""
    note: str = ""


class Pen:
    """Writes for this process and those that it forks; a line is there whatever becomes of who wrote it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pid = 0
        self._file = -1

    def write(self, kind: str, key: str, id: str = "", note: str = "") -> None:  # noqa: A002 - as in Event
        """Add a line."""
        pid = os.getpid()
        if pid != self._pid:
            flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
            self._file, self._pid = os.open(self._directory / f"{pid}.jsonl", flags, 0o644), pid
        os.write(self._file, f"{json.dumps([kind, key, time.monotonic(), pid, id, note])}\n".encode())


class Ledger:
    """Reads what all have written so far."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read: dict[Path, int] = {}
        self._events: list[Event] = []
        directory.mkdir(exist_ok=True)

    def events(self) -> list[Event]:
        """Return all events so far, in the order of their times."""
        news = [event for path in self.directory.glob("*.jsonl") for event in self._news(path)]
        if news:
            self._events = sorted([*self._events, *news], key=lambda event: event.at)
        return self._events

    def count(self, kind: str) -> int:
        """Return how many events of a kind there are."""
        return sum(event.kind == kind for event in self.events())

    def running(self, pid: int | None = None) -> int:
        """Return how many runs have begun and not ended, in a process or in all that there were."""
        open_runs: set[tuple[str, int]] = set()
        for event in self.events():
            if event.kind == "start":
                open_runs.add((event.key, event.pid))
            elif event.kind in {"end", "cut"}:
                open_runs.discard((event.key, event.pid))
        return sum(pid in {None, who} for _, who in open_runs)

    def _news(self, path: Path) -> Iterator[Event]:
        """Yield the whole lines that have been added since they were last read."""
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read[path] = self._read.get(path, 0) + len(line)
                yield Event(*json.loads(line))
