"""One candidate for the lead of the schedule: what it does, turn by turn, and how long it may rest."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from django.db import connections

from django_vtasks.brokers.base import Coordinator, Due, Standing, Tick
from django_vtasks.brokers.seldom import Seldom
from django_vtasks.scheduler.agenda import Agenda
from django_vtasks.scheduler.entries import Entry
from django_vtasks.worker.outage import Outage

logger = logging.getLogger(__name__)

ROLE = "scheduler"
LASTS, RENEW_EVERY, TRY_EVERY = 3 / 5, 1 / 5, 1 / 15
"""Parts of the lease: a term, the time between two renewals of it, and that between two tries to follow.

A leader that vanishes is followed within two thirds of the lease, which leaves a third for calls to an ailing store.
"""
STEP = 1.0
"""Seconds that a clock is set by, which are not worth a word."""
NAMED = 5
"""Entries that a line of the log names, at most."""
MOST = 1000
"""Slots of one turn; the lead is kept in between."""


class EntryState(NamedTuple):
    """The last slot of an entry and the next, in seconds since the epoch; a next one that has passed is overdue."""

    last: float | None
    next: float | None


class State(NamedTuple):
    """Who leads the schedule, whether it is this candidate, and how each entry stands."""

    leader: str | None
    is_leader: bool
    entries: Mapping[str, EntryState]


class Candidate:
    """Lead when nobody else does, and then enqueue what is due; the store sees to it that each slot is enqueued once.

    All calls but state() belong to one thread, and block for as long as the store's deadlines allow. ``tell`` is
    called with what became of slots.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        entries: Sequence[Entry],
        *,
        node: str,
        lease: float,
        tell: Callable[[Sequence[Due], Sequence[Tick]], None],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._coordinator = coordinator
        self._entries = entries
        self._timetables = {entry.name: entry.timetable.fingerprint for entry in entries}
        self._node = node
        self._lease = lease
        self._tell = tell
        self._clock = clock
        self._monotonic = monotonic
        self._outage = Outage("keep the schedule")
        self._term: int | None = None
        self._agenda: Agenda | None = None
        self._renew_at = self._read_at = float("-inf")
        self._turned_at = (0.0, 0.0)
        self._begun: dict[str, tuple[float, float]] = {}
        self._standings: dict[str, Standing] = {}
        self._held_up = Seldom(logger, monotonic=monotonic)
        self._leader: str | None = None

    @property
    def is_leader(self) -> bool:
        """Tell whether this candidate leads, as far as it knows."""
        return self._agenda is not None

    def state(self, most: int | None = None) -> State:
        """Return how the schedule stands, as far as this candidate knows; may be called on any thread.

        Of the first ``most`` entries alone, if it is given: to find the next slots of many takes time.
        """
        agenda, standings = self._agenda, dict(self._standings)
        leads = agenda is not None
        next_slots = {} if agenda is None else agenda.next_slots()
        entries = {}
        for entry in islice(self._entries, most):
            standing = standings.get(entry.name)
            following = next_slots.get(entry.name)
            if following is None:
                following = entry.timetable.after(self._clock() if standing is None else _over(standing))
            entries[entry.name] = EntryState(None if standing is None else standing.last, following)
        return State(self._node if leads else self._leader, leads, entries)

    def turn(self) -> float:
        """Do what is to be done now; return the seconds until the next turn."""
        try:
            pause = self._turn()
        except Exception as error:  # noqa: BLE001 - whatever the store raises, it may come back
            connections.close_all()
            # Nobody knows what the store has done: it says so when it answers again.
            self._agenda = None
            return self._outage.failed(error)
        self._outage.over()
        return pause

    def resign(self) -> None:
        """Give up the lead, so that another follows at once, and all connections of this thread."""
        self._agenda = None
        try:
            if self._term is not None:
                self._coordinator.resign(ROLE, self._node)
        except Exception as error:  # noqa: BLE001 - the term then runs out by itself
            logger.warning("Could not resign the lead of the schedule: %s", error)
        connections.close_all()

    def _turn(self) -> float:
        if self._agenda is None or self._monotonic() >= self._renew_at:
            self._stand()
        if self._agenda is None:
            return TRY_EVERY * self._lease
        self._mind_the_clock()
        agenda = self._agenda
        if dues := agenda.take(self._clock(), MOST):
            self._settle(agenda, dues, self._coordinator.tick(dues))
        if dues := agenda.take_held_up(self._clock(), self._monotonic(), MOST):
            self._settle(agenda, dues, self._try_again(dues))
        if agenda.dropped:
            self._tell_dropped(agenda)
        steady = self._monotonic()
        pause = min(agenda.next - self._clock(), agenda.next_retry - steady, self._renew_at - steady)
        return max(0.0, pause)

    # The lead ------------------------------------------------------------------------------------------------

    def _stand(self) -> None:
        """Take the lead, or keep it."""
        asked_at = self._monotonic()
        term = self._coordinator.lead(ROLE, self._node, LASTS * self._lease)
        if term is None:
            self._follow()
            return
        self._renew_at = asked_at + RENEW_EVERY * self._lease
        if term != self._term:
            logger.info("%s leads the schedule of %d entries (term %d)", self._node, len(self._entries), term)
            self._term, self._agenda = term, None
            self._open_agenda(" while nobody led")
        elif self._agenda is None:
            self._open_agenda()

    def _follow(self) -> None:
        """Take in that somebody else leads."""
        if self._term is not None:
            logger.warning("%s leads the schedule no more", self._node)
            self._term = self._agenda = None
        self._leader = self._coordinator.leader(ROLE)
        if self._monotonic() >= self._read_at:
            self._standings = self._coordinator.standings()
            self._read_at = self._monotonic() + self._lease

    def _open_agenda(self, why: str = "") -> None:
        """Ask the store what has been done, and begin with what was missed."""
        known = self._coordinator.standings()
        asked_at = self._clock()  # what is due before the answer is here is due
        standings = self._coordinator.register(self._timetables)
        self._standings = standings
        now = self._clock()
        since = {name: self._open_since(name, standing, known, asked_at) for name, standing in standings.items()}
        self._agenda = Agenda(self._entries, since, now, self._lease)
        self._turned_at = now, self._monotonic()
        if self._agenda.dropped:
            self._tell_dropped(self._agenda, why)

    def _open_since(self, name: str, standing: Standing, known: Mapping[str, Standing], asked_at: float) -> float:
        """Return the moment after which an entry's slots are open."""
        # A host whose clock is ahead of the store's must not take the first slots of a new entry for missed ones.
        if name not in known or known[name].since != standing.since:
            self._begun[name] = standing.since, asked_at
        begun = self._begun.get(name)
        own = begun[1] if begun is not None and begun[0] == standing.since else standing.since
        return max(own, _over(standing))

    # Slots ---------------------------------------------------------------------------------------------------

    def _mind_the_clock(self) -> None:
        """Begin anew where the clock has jumped, or the host has slept."""
        (wall, steady), now = self._turned_at, (self._clock(), self._monotonic())
        self._turned_at = now
        if -STEP <= now[0] - wall <= LASTS * self._lease:
            return
        if abs(jump := now[0] - wall - (now[1] - steady)) > STEP:
            logger.warning("The clock has been set by %+.0f s", jump)
        self._open_agenda()

    def _try_again(self, dues: Sequence[Due]) -> Sequence[Tick]:
        """Tick what was held up; the others are not to suffer from it, whatever it is."""
        try:
            return self._coordinator.tick(dues)
        except Exception as error:  # noqa: BLE001 - were it the store's, the lead would be lost, too
            self._held_up.warning("Slots are held up: %s", error)
            return [Tick.HELD_UP] * len(dues)

    def _settle(self, agenda: Agenda, dues: Sequence[Due], ticks: Sequence[Tick]) -> None:
        for due, tick in zip(dues, ticks, strict=True):
            if tick is not Tick.HELD_UP:
                self._standings[due.entry] = self._standings[due.entry]._replace(last=due.slot)
        if news := agenda.settle(dues, ticks, self._monotonic()):
            self._held_up.warning("Slots are held up, and are tried again: %s", _named(news, len(news)))
        self._tell(dues, ticks)

    def _tell_dropped(self, agenda: Agenda, why: str = "") -> None:
        dropped, agenda.dropped = agenda.dropped, {}
        named = _named((f"{name} ({count})" for name, count in dropped.items()), len(dropped))
        logger.warning("Slots were missed%s, and do not run: %s", why, named)


def _over(standing: Standing) -> float:
    """Return up to when the slots of an entry are over."""
    return standing.since if standing.last is None else max(standing.since, standing.last)


def _named(names: Iterable[str], count: int) -> str:
    more = f" and {count - NAMED} more entries" if count > NAMED else ""
    return ", ".join(islice(names, NAMED)) + more
