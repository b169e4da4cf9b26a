"""From what the ledger says to what has been lost, doubled or spoilt: pure functions."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, pairwise
from math import inf
from typing import NamedTuple

from load_tests.chaos import queues
from load_tests.chaos.ledger import Event

SHARE = 0.9
WINDOW = 1.0
SLOWER = 0.5
"""The part of the usual rate below which calls may not fall: a busy machine slows down everybody, but not so far."""
FEW = 2
"""Of fewer calls there is no rate."""
UNSETTLED = 0.5
"""Seconds within which a worker has settled what has ended, so that it can be run again only for a fault until then."""


class Verdict(StrEnum):
    """What a run shows."""

    OK = "ok"
    FAIL = "FAIL"
    VACUOUS = "VACUOUS"
    """Nothing: the fault met nobody."""
    LACKING = "LACKING"
    """Nothing: this machine has not what the scenario takes."""


class Fault(NamedTuple):
    """What happened to some processes, or to all if ``pids`` is None, from ``began`` to ``ended``.

    What they had ended ``before`` seconds earlier may not have been settled.
    """

    kind: str
    began: float
    ended: float
    pids: frozenset[int] | None = None
    before: float = UNSETTLED
    undoes: bool = False
    """Whether the store may have forgotten what it had taken in: it was killed, or another has taken its place."""
    mutes: bool = False
    """Whether answers may come too late, or never: then a store that was told twice refuses the second time."""

    def meets(self, run: "Execution") -> bool:
        """Tell whether a run was under way, or the moment before its end was settled."""
        is_hit = self.pids is None or run.pid in self.pids
        return is_hit and run.start <= self.ended and (run.end is None or run.end >= self.began - self.before)

    def excuses(self, run: "Execution", *, is_last: bool = False) -> bool:
        """Tell whether a task may run again that ran so, or before, if this is its last run.

        What the store has taken in runs again only if the store may have forgotten it. What is away for all holds
        nobody up alone, who might begin a task after it has run elsewhere.
        """
        if run.settled is not None and not self.undoes_end(run.settled):
            return False
        return self.meets(run) and not (is_last and self.pids is None)

    def undoes_end(self, settled: float) -> bool:
        """Tell whether the store may have forgotten what it had taken in at a time."""
        return self.undoes and self.began - self.before <= settled <= self.ended

    def interrupts(self, run: "Execution") -> bool:
        """Tell whether a run never ended because of this."""
        return run.end is None and run.start <= self.ended and (self.pids is None or run.pid in self.pids)


class Execution(NamedTuple):
    """One run of a task in a process."""

    start: float
    pid: int
    end: float | None
    cut: float | None = None
    """When it was given up instead, if somebody lived to tell."""
    settled: float | None = None
    """When its process learned that the store had taken in its end."""


class Account(NamedTuple):
    """What became of the calls, as keys; ``accepted`` and ``reruns`` are numbers."""

    accepted: int
    finished: int
    refused: int
    lost: list[str]
    duplicates: list[str]
    reruns: int
    spurious: list[str]
    contradictory: list[str]
    """With two ends: in the failed list and done, or done twice in the eyes of the store."""
    overlaps: list[str]
    """Unique ones that were accepted before their equal had ended."""
    strangers: list[str]
    """Ran although nobody had asked for them."""
    unsettled: list[str]
    """Ran to their end, which no store has taken in, although no fault was in the way."""
    rebuffed: list[str]
    """Refused to whoever enqueued, although no fault was in the way."""
    at_once: int
    """The most that ran in one process at the same time."""


def judge(bites: Mapping[str, int], problems: Sequence[str]) -> Verdict:
    """Return FAIL if there are problems, VACUOUS if one of the faults did not bite, else ok."""
    if problems:
        return Verdict.FAIL
    return Verdict.OK if bites and all(bites.values()) else Verdict.VACUOUS


def executions(events: Iterable[Event]) -> dict[str, list[Execution]]:
    """Return the runs of each key in the order in which they began."""
    runs: dict[str, list[Execution]] = defaultdict(list)
    keys: dict[str, str] = {}
    for event in events:
        if event.kind == "start":
            runs[event.key].append(Execution(event.at, event.pid, None))
            keys[event.id] = event.key
        elif event.kind == "settled" and event.id in keys:
            _settle(runs[keys[event.id]], event)
        elif event.kind in {"end", "cut"}:
            of_key = runs[event.key]
            for index in reversed(range(len(of_key))):
                if of_key[index].pid == event.pid and of_key[index].end is of_key[index].cut is None:
                    is_end = event.kind == "end"
                    of_key[index] = of_key[index]._replace(
                        end=event.at if is_end else None, cut=None if is_end else event.at
                    )
                    break
    return runs


def account(
    events: Sequence[Event], failed: Collection[str], faults: Sequence[Fault], doomed: Collection[str] = ()
) -> Account:
    """Hold what was asked for against what was done; ``failed`` are the ids in the failed list.

    Only calls that should succeed are asked for in the ledger; ``doomed`` are the ids of others that have failed.
    """
    accepted = {event.key: event for event in events if event.kind == "accept"}
    tried = {event.key: event.at for event in events if event.kind == "try"}
    settled = [event for event in events if event.kind == "settled"]
    acked = {event.id for event in settled if event.note == "ack"}
    ids = {event.id: event.key for event in events if event.id and event.key}
    runs = executions(events)
    done = {key for key, of_key in runs.items() if any(run.end is not None for run in of_key)}
    spurious = [ids[task_id] for task_id in failed if task_id in ids]
    reruns, duplicates = _repeated(runs, faults)
    return Account(
        accepted=len(accepted),
        finished=sum(key in done for key in accepted),
        refused=sum(event.kind == "error" for event in events),
        lost=sorted(key for key, event in accepted.items() if key not in done and event.id not in failed),
        duplicates=duplicates,
        reruns=reruns,
        spurious=sorted(spurious),
        contradictory=sorted(
            {ids.get(task_id, task_id) for task_id in acked & {*failed, *doomed}}
            | {ids.get(task_id, task_id) for task_id in _twice(settled, faults)}
        ),
        overlaps=_overlaps(accepted, tried, runs),
        strangers=sorted(runs.keys() - tried.keys()) if tried else [],
        unsettled=_unsettled(accepted, runs, acked | set(failed), _answered_late(events, ids, faults), faults),
        rebuffed=_rebuffed(events, tried, faults),
        at_once=_most_at_once([run for of_key in runs.values() for run in of_key], faults),
    )


def interrupted(events: Iterable[Event], faults: Iterable[Fault]) -> int:
    """Return how many runs were ended by a kill."""
    kills = [fault for fault in faults if fault.kind == "kill"]
    runs = [run for of_key in executions(events).values() for run in of_key]
    return sum(any(kill.interrupts(run) for kill in kills) for run in runs)


def delays(events: Iterable[Event], faults: Iterable[Fault]) -> list[float]:
    """Return, of each run that was ended by a kill, after how many seconds its task ran again."""
    kills = [fault for fault in faults if fault.kind == "kill"]
    found = []
    for of_key in executions(events).values():
        for run, following in pairwise(of_key):
            found += [following.start - kill.began for kill in kills if kill.interrupts(run)][:1]
    return found


def rate(events: Iterable[Event], since: float, until: float) -> float:
    """Return how many runs ended per second."""
    return sum(event.kind == "end" and since <= event.at < until for event in events) / max(until - since, 1e-9)


def of_queue(events: Iterable[Event], queue: str) -> list[Event]:
    """Return the events of the calls that were fed into a queue."""
    events = list(events)
    keys = queues.accepted(events, queue)
    return [event for event in events if event.key in keys]


def part_asked(events: Iterable[Event], usual: float, since: float, until: float = inf) -> float:
    """Return the part of a usual rate at which calls were tried in some time, but no less than may be.

    Those that were refused count: whoever refuses most of them is not back with the few that are left.
    """
    tried = [event.at for event in events if event.kind == "try" and since <= event.at < until]
    if len(tried) < FEW or not usual:
        return 1.0
    return min(1.0, max(SLOWER, len(tried) / max(tried[-1] - since, WINDOW) / usual))


def comeback(events: Iterable[Event], healed: float, usual: float) -> float | None:
    """Return how many seconds after a time the ends reached nine tenths of a rate for a second."""
    ends = sorted(event.at for event in events if event.kind == "end" and event.at >= healed)
    for first in ends:
        if bisect_right(ends, first + WINDOW) - bisect_left(ends, first) >= SHARE * usual * WINDOW:
            return first - healed
    return None


def _settle(of_key: list[Execution], event: Event) -> None:
    """Note that an end was taken in: the last that its process has told of."""
    ended = [run for run in of_key if run.pid == event.pid and run.end is not None]
    if ended:
        last = max(ended, key=lambda run: run.end or 0.0)
        of_key[of_key.index(last)] = last._replace(settled=event.at)


def _repeated(runs: Mapping[str, Sequence[Execution]], faults: Sequence[Fault]) -> tuple[int, list[str]]:
    """Return how many runs there were beyond the first, and the keys that have two or more which no fault excuses."""
    again = {key: of_key for key, of_key in runs.items() if len(of_key) > 1}
    duplicates = [
        key
        for key, of_key in again.items()
        if sum(
            not any(fault.excuses(run, is_last=number == len(of_key)) for fault in faults)
            for number, run in enumerate(of_key, 1)
        )
        > 1
    ]
    return sum(len(of_key) - 1 for of_key in again.values()), sorted(duplicates)


def _unsettled(
    accepted: Mapping[str, Event],
    runs: Mapping[str, Sequence[Execution]],
    settled: Collection[str],
    answered_late: Collection[str],
    faults: Sequence[Fault],
) -> list[str]:
    """Return the calls of which a run has ended, but not for the store: it would have run them again."""
    return sorted(
        key
        for key, event in accepted.items()
        if event.id not in settled
        and key not in answered_late
        and any(run.end is not None for run in runs.get(key, ()))
        and not any(fault.meets(run) for fault in faults for run in runs[key])
    )


def _answered_late(events: Iterable[Event], ids: Mapping[str, str], faults: Iterable[Fault]) -> set[str]:
    """Return the calls whose end the store has refused after an answer may have been lost."""
    mutes = [fault for fault in faults if fault.mutes]
    return {
        ids.get(event.id, "")
        for event in events
        if event.kind == "fenced" and any(fault.began <= event.at <= fault.ended for fault in mutes)
    }


def _most_at_once(runs: Iterable[Execution], faults: Iterable[Fault]) -> int:
    """Return the greatest number of runs that one process had at the same time."""
    kills = [fault for fault in faults if fault.kind == "kill"]  # after which another may have the process's number
    steps: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for run in runs:
        died = min((kill.ended for kill in kills if kill.interrupts(run)), default=inf)
        steps[run.pid] += [(run.start, 1), (min(run.end or inf, run.cut or inf, died), -1)]
    return max(
        (most for of_pid in steps.values() for most in accumulate(step for _, step in sorted(of_pid))), default=0
    )


def _overlaps(
    accepted: Mapping[str, Event], tried: Mapping[str, float], runs: Mapping[str, Sequence[Execution]]
) -> list[str]:
    """Return the unique calls that were accepted while no run of the one before had ended.

    Of two that were on their way at the same time, nobody knows which the store has had before the other.
    """
    equals: dict[str, list[Event]] = defaultdict(list)
    for key, event in accepted.items():
        unique, slash, _ = key.partition("/")
        if slash:
            equals[unique].append(event)
    found = []
    for events in equals.values():
        for one, other in pairwise(sorted(events, key=lambda event: event.at)):
            ends = [run.end for run in runs.get(one.key, ()) if run.end is not None]
            is_later = tried.get(other.key, other.at) >= one.at
            if is_later and ends and min(ends) > other.at:
                found.append(other.key)
    return found


def _rebuffed(events: Iterable[Event], tried: Mapping[str, float], faults: Iterable[Fault]) -> list[str]:
    """Return the calls that were refused although no fault met everybody while they were on their way."""
    faults = [fault for fault in faults if fault.pids is None]
    return sorted(
        event.key
        for event in events
        if event.kind == "error"
        and not any(fault.began <= event.at and tried.get(event.key, event.at) <= fault.ended for fault in faults)
    )


def _twice(settled: Iterable[Event], faults: Sequence[Fault]) -> set[str]:
    """Return the ids that were settled more than once, although no crash of the store can have undone the first."""
    seen: set[str] = set()
    twice: set[str] = set()
    for event in settled:
        if event.id in seen:
            twice.add(event.id)
        if not any(fault.undoes_end(event.at) for fault in faults):
            seen.add(event.id)
    return twice
