"""When an entry is due, on the days on which clocks are set too, and which of the slots that were missed run."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import nextafter
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_vtasks.schedule import BOUND, MOST_COUNTED, CatchUp, Misfire, Timetable, crontab, missed, timetable

LONDON = ZoneInfo("Europe/London")
BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
SANTIAGO = ZoneInfo("America/Santiago")
GRACE = 15.0
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()


def at(text, zone=UTC):
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def after(table: Timetable, moment: float) -> float:
    """Return the slot after a moment, which there must be."""
    slot = table.after(moment)
    assert slot is not None
    return slot


def slots(schedule, begin, count, zone=UTC):
    """Return the slots after a moment of the clock on the wall, as the offset-aware times that it then shows."""
    table = timetable(schedule, zone if isinstance(zone, ZoneInfo) else ZoneInfo("UTC"))
    moment, found = at(begin, zone), list[str]()
    while len(found) < count:
        moment = after(table, moment)
        found.append(f"{datetime.fromtimestamp(moment, zone):%m-%d %H:%M:%S %z}".removesuffix(" +0000"))
    return found


# Schedules


@pytest.mark.parametrize("schedule", [90, 90.0, timedelta(seconds=90)])
def test_an_interval_is_due_at_its_multiples_whenever_it_is_asked(schedule):
    assert slots(schedule, "2026-01-01 00:00:10", 3) == ["01-01 00:01:30", "01-01 00:03:00", "01-01 00:04:30"]
    assert slots(schedule, "2026-01-01 00:01:30", 1) == ["01-01 00:03:00"]


def test_an_interval_may_be_a_fraction_of_a_second():
    table = timetable(0.1, LONDON)

    moments = [NOON]
    for _ in range(50):
        moments.append(after(table, moments[-1]))

    assert moments == [round(NOON + number / 10, 6) for number in range(51)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (crontab(hour=5, minute=0), ["01-02 05:00:00", "01-03 05:00:00"]),
        (crontab(5, 0), ["01-02 00:05:00", "01-03 00:05:00"]),
        (crontab(minute="*/20"), ["01-01 12:20:00", "01-01 12:40:00"]),
        (crontab(0, 0, day_of_week="mon"), ["01-05 00:00:00", "01-12 00:00:00"]),
        (crontab(0, 0, day_of_week=7), ["01-04 00:00:00", "01-11 00:00:00"]),
        (crontab(0, 0, day_of_month=31), ["01-31 00:00:00", "03-31 00:00:00"]),
        (crontab(0, 0, day_of_month=1, month_of_year="FEB,7"), ["02-01 00:00:00", "07-01 00:00:00"]),
        ("0 0 L * *", ["01-31 00:00:00", "02-28 00:00:00"]),
        ("0 0 29 2 *", ["02-29 00:00:00", "02-29 00:00:00"]),
    ],
)
def test_a_cron_schedule_is_due_when_its_fields_match(schedule, expected):
    assert slots(schedule, "2026-01-01 12:00:00", 2) == expected


def test_the_last_second_of_a_year_is_followed_by_the_first():
    assert slots("* * * * *", "2026-12-31 23:58:30", 2) == ["12-31 23:59:00", "01-01 00:00:00"]


def test_a_cron_schedule_goes_by_the_clock_of_its_time_zone():
    [summer] = slots("0 5 * * *", "2026-07-01 00:00", 1, NEW_YORK)
    [winter] = slots("0 5 * * *", "2026-01-01 00:00", 1, NEW_YORK)

    assert (summer, winter) == ("07-01 05:00:00 -0400", "01-01 05:00:00 -0500")


# When clocks are set: Berlin goes from 02:00 to 03:00 on 29 March 2026, and from 03:00 to 02:00 on 25 October


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("30 2 * * *", ["03-29 03:00:00 +0200", "03-30 02:30:00 +0200"]),
        ("0,30 2 * * *", ["03-29 03:00:00 +0200", "03-30 02:00:00 +0200"]),
        ("*/15 2 * * *", ["03-29 03:00:00 +0200", "03-30 02:00:00 +0200"]),
        ("0 2,3 * * *", ["03-29 03:00:00 +0200", "03-30 02:00:00 +0200"]),
        ("0 */2 * * *", ["03-29 03:00:00 +0200", "03-29 04:00:00 +0200"]),
    ],
)
def test_times_that_the_clock_leaves_out_are_due_once_at_the_jump(schedule, expected):
    assert slots(schedule, "2026-03-29 01:00", 2, BERLIN) == expected


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("30 2 * * *", ["10-25 02:30:00 +0200", "10-26 02:30:00 +0100"]),
        ("*/30 2 * * *", ["10-25 02:00:00 +0200", "10-25 02:30:00 +0200", "10-26 02:00:00 +0100"]),
        ("30 */2 * * *", ["10-25 02:30:00 +0200", "10-25 04:30:00 +0100"]),
    ],
)
def test_times_that_the_clock_shows_twice_are_due_the_first_time(schedule, expected):
    assert slots(schedule, "2026-10-25 01:45", len(expected), BERLIN) == expected


def test_a_slot_is_not_found_again_in_the_hour_that_comes_twice():
    table = timetable("30 2 * * *", BERLIN)
    second_time = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1).timestamp()

    assert after(table, second_time) == at("2026-10-26 02:30", BERLIN)


@pytest.mark.parametrize("schedule", ["*/15 * * * *", crontab(minute="0-59/15", hour="0-23"), 900])
@pytest.mark.parametrize("night", ["2026-03-29 00:00", "2026-10-25 00:00"])
def test_what_is_due_in_every_hour_keeps_its_interval_when_clocks_are_set(schedule, night):
    table = timetable(schedule, BERLIN)
    moments = [at(night, BERLIN)]
    for _ in range(20):
        moments.append(after(table, moments[-1]))

    assert {later - earlier for earlier, later in pairwise(moments)} == {900.0}


def test_a_day_that_begins_at_one_o_clock_has_its_midnight_then():
    assert slots("0 0 * * *", "2026-09-05 12:00", 2, SANTIAGO) == ["09-06 01:00:00 -0300", "09-07 00:00:00 -0300"]


EXPRESSIONS = st.one_of(
    st.builds("{} {} * * *".format, st.sampled_from(["0", "30", "*/7", "5,50"]), st.sampled_from(["*", "1-4", "*/2"])),
    st.builds("{} 2 {} * *".format, st.integers(0, 59), st.sampled_from(["*", "25", "29", "L"])),
)
MOMENTS = st.floats(at("2026-01-01"), at("2027-01-01"))


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.floats(0.01, 1e6), EXPRESSIONS), MOMENTS, st.sampled_from([BERLIN, NEW_YORK, SANTIAGO, LONDON]))
def test_slots_ascend_and_are_the_same_from_wherever_one_looks(schedule, moment, zone):
    table = timetable(schedule, zone)
    first = after(table, moment)
    second = after(table, first)

    assert moment < first < second
    assert after(table, nextafter(first, 0)) == first
    assert after(table, (moment + first) / 2) in {first, second if (moment + first) / 2 >= first else first}
    assert after(table, (first + second) / 2) in {second, after(table, second)}


# Fingerprints


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (3600, timedelta(hours=1)),
        ("*/30 * * * *", crontab(minute="0,30")),
        ("0 0 * * 7", "0 0 * * SUN"),
        ("0 0 1-31 * 1", "0 0 * * *"),
        ("0  5 * * *", crontab(0, 5)),
    ],
)
def test_the_same_slots_have_the_same_fingerprint_however_they_are_written(one, other):
    assert timetable(one, BERLIN).fingerprint == timetable(other, BERLIN).fingerprint


def test_other_slots_have_another_fingerprint():
    schedules = [3600, 3600.5, "0 * * * *", "0 5 * * *", "0 5 * * 1", "0 5 1 * 1", "0 5 1 * *", "0 5 * * 1#1"]
    fingerprints = {timetable(schedule, zone).fingerprint for schedule in schedules for zone in (BERLIN, LONDON)}

    assert len(fingerprints) == 2 * len(schedules) - 2  # an interval has no time zone
    assert max(map(len, fingerprints)) <= 64


# Bad input


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("* * * *", "which has 4 fields"),
        ("* * * * * *", "which has 6 fields"),
        ("", "which has 0 fields"),
        ("@daily", "which has 1 fields"),
        ("60 * * * *", "which is not valid: bad minute"),
        ("0 24 * * *", "which is not valid: bad hour"),
        ("0 0 32 * *", "which is not valid: bad day-of-month"),
        ("0 0 * 13 *", "which is not valid: bad month"),
        ("0 0 * * MOON", "which is not valid: bad day-of-week"),
        ("*/0 * * * *", "which is not valid: bad minute"),
        (f"{'9' * 5000} * * * *", "which is not valid"),
        ("0 0 31 4 *", "which is never due"),
        ("0 0 30 FEB *", "which is never due"),
        (crontab(0, 0, day_of_month=31, month_of_year="4,6"), "which is never due"),
        (crontab(minute="1, 2"), "has minute = '1, 2'"),
        (crontab(hour=5.5), "has hour = 5.5"),  # type: ignore[arg-type]
        (crontab(minute=True), "has minute = True"),
        (-1, "must be at least 0.01"),
        (0, "must be at least 0.01"),
        (float("nan"), "must be at least 0.01"),
        (float("inf"), "must be at least 0.01"),
        (10**400, "must be at least 0.01"),
        (timedelta(days=-1), "must be at least 0.01"),
        (True, "must be crontab(…)"),
        (None, "must be crontab(…)"),
        (["0", "5"], "must be crontab(…)"),
    ],
)
def test_a_schedule_that_is_none_is_refused_with_the_reason(schedule, message):
    with pytest.raises(ValueError, match=r"^(is|has|must)") as raised:
        timetable(schedule, BERLIN)

    assert message in str(raised.value)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("0123456789*/,-L#WSUNab", min_size=1, max_size=6), min_size=5, max_size=5).map(" ".join))
def test_any_five_fields_are_a_schedule_or_refused(expression):
    try:
        table = timetable(expression, BERLIN)
    except ValueError:
        return
    first = table.after(NOON)

    assert first is None or first > NOON


# Missed slots


def hours_ago(count):
    return NOON - count * 3600


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Misfire.LATEST, CatchUp([hours_ago(0.5)], 2)),
        (Misfire.SKIP, CatchUp([], 3)),
        (Misfire.ALL, CatchUp([hours_ago(2.5), hours_ago(1.5), hours_ago(0.5)], 0)),
    ],
)
def test_of_three_missed_slots_the_policy_says_which_run(policy, expected):
    table = timetable("30 * * * *", BERLIN)

    assert missed(table, hours_ago(3.5), NOON, policy, grace=GRACE) == expected


@pytest.mark.parametrize("policy", list(Misfire))
def test_when_nothing_was_missed_nothing_runs(policy):
    assert missed(timetable("30 * * * *", BERLIN), hours_ago(0.5), NOON, policy, grace=GRACE) == CatchUp([], 0)
    assert missed(timetable(1, BERLIN), NOON + 100, NOON, policy, grace=GRACE) == CatchUp([], 0)


def test_a_slot_that_is_late_by_less_than_the_grace_is_not_missed():
    table = timetable(3600, BERLIN)

    assert missed(table, hours_ago(3), NOON + GRACE - 0.1, Misfire.SKIP, grace=GRACE) == CatchUp([NOON], 2)
    assert missed(table, hours_ago(3), NOON + GRACE, Misfire.SKIP, grace=GRACE) == CatchUp([], 3)


def test_of_very_many_missed_slots_the_latest_run():
    table = timetable(1, BERLIN)

    caught_up = missed(table, hours_ago(24 * 365), NOON, Misfire.ALL, grace=GRACE)

    assert caught_up == CatchUp([NOON - BOUND + number for number in range(1, BOUND + 1)], MOST_COUNTED - BOUND)


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, MOMENTS, st.floats(0, 3 * 86400), st.sampled_from([BERLIN, NEW_YORK]))
def test_missed_slots_are_those_that_would_have_been_found_in_time(schedule, since, seconds, zone):
    table = timetable(schedule, zone)
    expected, slot = list[float](), after(table, since)
    while slot <= since + seconds:
        expected.append(slot)
        slot = after(table, slot)

    found = missed(table, since, since + seconds, Misfire.ALL, grace=GRACE, bound=MOST_COUNTED).slots

    assert found == expected[-MOST_COUNTED:]


# In settings.py


def test_settings_may_import_crontab(tmp_path):
    (tmp_path / "guide_settings.py").write_text(
        "from django_vtasks.scheduler import crontab\n"
        "SECRET_KEY = 'x'\n"
        "VTASKS_SCHEDULE = {'daily': {'task': 'a.b', 'schedule': crontab(hour=5, minute=0)}}\n"
    )
    program = (
        "from django.conf import settings; settings.VTASKS_SCHEDULE; "
        "print(settings.VTASKS_SCHEDULE['daily']['schedule'].expression)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"DJANGO_SETTINGS_MODULE": "guide_settings", "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("0 5 * * *\n", "")
