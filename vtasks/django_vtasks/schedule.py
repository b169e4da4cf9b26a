"""Crontab, cron string or interval → slots, and which of those that were missed still run; pure."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

SHORTEST, LONGEST = 0.01, 1_000_000_000
"""Seconds between two slots of an interval."""
BOUND = 100
"""Missed slots of one entry that run, at most."""
MOST_COUNTED = 1000
"""Missed slots of one entry that are counted, at most."""

_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_ALL_HOURS, _ALL_DAYS, _ALL_WEEKDAYS = set(range(24)), set(range(1, 32)), set(range(7))
_ANY_YEAR = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Crontab:
    """What crontab() was given; looked at when the schedule is read, so that a mistake does not break the settings."""

    minute: int | str = "*"
    hour: int | str = "*"
    day_of_week: int | str = "*"
    day_of_month: int | str = "*"
    month_of_year: int | str = "*"

    @property
    def expression(self) -> str:
        """Return the cron expression; raise ValueError for what is no field of one."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        for name, value in fields.items():
            if not isinstance(value, int | str) or isinstance(value, bool) or len(str(value).split()) != 1:
                raise ValueError(f"has {name} = {value!r}, which must be a number or a string without spaces")
        return " ".join(map(str, fields.values()))


def crontab(
    minute: int | str = "*",
    hour: int | str = "*",
    day_of_week: int | str = "*",
    day_of_month: int | str = "*",
    month_of_year: int | str = "*",
) -> Crontab:
    """Return the schedule of a task that is due when all fields match; each is a number or what cron has there."""
    return Crontab(minute, hour, day_of_week, day_of_month, month_of_year)


class Timetable(Protocol):
    """The slots of an entry, in seconds since the epoch: the same to whoever computes them."""

    @property
    def fingerprint(self) -> str:
        """Return what changes with the slots, and only with them; at most 64 characters."""
        ...

    def after(self, moment: float) -> float | None:
        """Return the first slot later than a moment; None when there is none for decades."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """Due at the multiples of a period since the epoch, to the microsecond."""

    seconds: float

    @property
    def fingerprint(self) -> str:
        """Return the period."""
        return f"every {self.seconds!r}"

    def after(self, moment: float) -> float:
        """Return the first multiple later than a moment."""
        number = math.floor(moment / self.seconds)
        while (slot := round(number * self.seconds, 6)) <= moment:
            number += 1
        return slot


class Cron:
    """Due when a cron expression of five fields says so in a time zone.

    One that names hours goes by the clock on the wall: a time that the clock leaves out is due at the jump, one that it
    shows twice is due the first time. One that is due in every hour takes no notice: its intervals stay as they are.

    In a zone whose clocks are set by half an hour (Australia/Lord_Howe) one that is due in every hour may have a slot
    in that hour which only who asks for the next one after the jump finds: there it is due or not, but never twice.
    """

    __slots__ = ("_expression", "_zone", "fingerprint")

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        parsed = _parse(expression)
        minute, hour, *days = expression.split()
        # Cronsim minds the clock, as Debian's cron does, where no star is in the fields of the time: the same rule, but
        # it would leave out "*/15 2 * * *", and have "0 */2 * * *" twice.
        if parsed.hours == _ALL_HOURS:
            hour = "*"
        else:
            minute, hour = minute.replace("*", "0-59"), hour.replace("*", "0-23")
        self._expression = " ".join([minute, hour, *days])
        self._zone = zone
        self.fingerprint = _fingerprint(parsed, zone)

    def after(self, moment: float) -> float | None:
        """Return the first slot later than a moment."""
        # Slots are whole seconds, and what is a little less than one must not be rounded to it.
        for due in CronSim(self._expression, datetime.fromtimestamp(math.floor(moment), self._zone)):
            # In an hour that is there twice, the first slots found are those of the first time.
            if (slot := due.timestamp()) > moment:
                return slot
        return None


def timetable(schedule: object, zone: ZoneInfo) -> Timetable:
    """Return the timetable of a schedule as it stands in the settings; raise ValueError with what is wrong with it."""
    if isinstance(schedule, Crontab):
        return Cron(schedule.expression, zone)
    if isinstance(schedule, str):
        return Cron(schedule, zone)
    seconds = as_seconds(schedule)
    if seconds is None:
        raise ValueError(f"must be crontab(…), a cron string, seconds or a timedelta, not {schedule!r}")
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"must be at least {SHORTEST} and at most {LONGEST:,} seconds, not {seconds:g}")
    return Every(seconds)


def as_seconds(value: object) -> float | None:
    """Return the seconds that a number or a timedelta stands for; None for anything else."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        # An integer may be too large for a float.
        return float(max(-LONGEST - 1, min(value, LONGEST + 1))) if isinstance(value, int) else value
    return None


def _parse(expression: str) -> CronSim:
    fields = expression.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"is {expression!r}, which has {len(fields)} fields; a cron string has five: "
            "minute, hour, day of the month, month, day of the week"
        )
    try:
        parsed = CronSim(expression, _ANY_YEAR)
    except (CronSimError, ValueError) as error:
        minute, hour, day, month, weekday = fields
        # Each is right by itself, as in 31 April.
        if _is_valid(minute, hour, day, "*", weekday) and _is_valid(minute, hour, "*", month, weekday):
            raise ValueError(f"is {expression!r}, which is never due") from error
        raise ValueError(f"is {expression!r}, which is not valid: {str(error).lower()}") from error
    if next(parsed, None) is None:
        raise ValueError(f"is {expression!r}, which is never due")
    return parsed


def _is_valid(*fields: str) -> bool:
    try:
        CronSim(" ".join(fields), _ANY_YEAR)
    except (CronSimError, ValueError):
        return False
    return True


def _fingerprint(parsed: CronSim, zone: ZoneInfo) -> str:
    """Return the same for all ways to write an expression: ``*/30`` and ``0,30`` are due alike."""
    days: set[Any] = parsed.days
    weekdays: set[Any] = {_sunday_is_0(day) for day in parsed.weekdays}
    if not parsed.day_and and (days >= _ALL_DAYS or weekdays >= _ALL_WEEKDAYS):
        days, weekdays = _ALL_DAYS, _ALL_WEEKDAYS
    both = parsed.day_and or (days, weekdays) == (_ALL_DAYS, _ALL_WEEKDAYS)
    fields = (parsed.minutes, parsed.hours, days, parsed.months, weekdays)
    text = repr(([sorted(field, key=repr) for field in fields], both, str(zone)))
    return f"cron {hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def _sunday_is_0(weekday: int | tuple[int, int]) -> int | tuple[int, int]:
    """Return a weekday of a parsed expression, or the n-th one of a month, with one number for Sunday."""
    return (weekday[0] % 7, weekday[1]) if isinstance(weekday, tuple) else weekday % 7


# Missed slots ------------------------------------------------------------------------------------------------


class Misfire(StrEnum):
    """What becomes of slots that were missed because nobody was there to enqueue them."""

    LATEST = "latest"
    """The latest runs, for all."""
    SKIP = "skip"
    """None runs."""
    ALL = "all"
    """All run, the latest of them if they are very many."""


class CatchUp(NamedTuple):
    """The missed slots that are to run, ascending, and how many others there were, counted up to MOST_COUNTED."""

    slots: list[float]
    dropped: int


def missed(
    timetable: Timetable, since: float, now: float, policy: Misfire, *, grace: float, bound: int = BOUND
) -> CatchUp:
    """Return what is to be made up for of the slots later than ``since`` and not later than ``now``.

    The last of them is not missed but late, and runs, if it is less than ``grace`` seconds ago.
    """
    slots = _newest(timetable, since, now, MOST_COUNTED)
    is_late = bool(slots) and now - slots[-1] < grace
    if policy is Misfire.ALL:
        kept = slots[-bound:]
    elif policy is Misfire.LATEST or is_late:
        kept = slots[-1:]
    else:
        kept = []
    return CatchUp(kept, len(slots) - len(kept))


def _newest(timetable: Timetable, since: float, now: float, limit: int) -> list[float]:
    """Return the last slots of a time, without a look at the others, which may be those of years."""
    span = 60.0
    while True:
        begin = max(since, now - span)
        slots = list(takewhile(lambda slot: slot <= now, _after(timetable, begin)))
        if begin == since or len(slots) >= limit:
            return slots[-limit:]
        span *= 2


def _after(timetable: Timetable, moment: float) -> Iterator[float]:
    slot = timetable.after(moment)
    while slot is not None:
        yield slot
        slot = timetable.after(slot)
