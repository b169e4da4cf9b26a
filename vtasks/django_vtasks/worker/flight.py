"""Notes which tasks run where they can be read after a SIGKILL."""

from collections.abc import Iterable
from typing import Protocol

from django_vtasks.brokers.base import Claim

ID_WIDTH = 64
"""Bytes of a note: the longest id of a task, which is ASCII."""


class Recorder(Protocol):
    """Memory that outlives the process; see vtasks_supervisor.recorder."""

    entries: int

    def note(self, entry: int, text: bytes) -> None:
        """Write over an entry."""
        ...

    def wipe(self, entry: int) -> None:
        """Empty an entry."""
        ...


class FlightRecord:
    """The ids of the tasks that run in this process, as far as there is memory for them."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._free = list(range(recorder.entries))
        self._entries: dict[int, int] = {}

    def begin(self, claim: Claim) -> None:
        """Note that a claim is about to run."""
        if self._free:
            entry = self._entries[id(claim)] = self._free.pop()
            self._recorder.note(entry, claim.envelope.id.encode())

    def end(self, claim: Claim) -> None:
        """Note that a claim runs no more."""
        entry = self._entries.pop(id(claim), None)
        if entry is not None:
            self._recorder.wipe(entry)
            self._free.append(entry)


def running_ids(notes: Iterable[bytes]) -> frozenset[str]:
    """Return the ids that a record held."""
    return frozenset(note.decode("ascii", "replace") for note in notes)
