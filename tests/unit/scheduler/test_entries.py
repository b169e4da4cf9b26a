"""An entry of VTASKS_SCHEDULE becomes the tasks of its slots; one that is wrong is told by its name."""

import logging
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.tasks import Task
from django.test import override_settings

from django_vtasks.conf import current
from django_vtasks.schedule import Misfire, crontab, timetable
from django_vtasks.scheduler import entries
from django_vtasks.scheduler.entries import Entry
from tests.app import tasks

ADD = "tests.app.tasks.add"
NOON = 1_700_000_000.0


@pytest.fixture(autouse=True)
def queues():
    with override_settings(VTASKS_QUEUES=["emails"]):
        yield


def the_entry(**entry: Any) -> Entry:
    """Return the only entry of a schedule, which has no problem."""
    found, problems = entries.read({"nightly": {"task": ADD, "schedule": 60} | entry})
    assert problems == []
    return found[0]


def the_problem(entry: Any, name: Any = "nightly") -> str:
    """Return what is said of the only entry of a schedule."""
    found, problems = entries.read({name: entry})
    assert found == []
    [problem] = problems
    return problem


def test_a_slot_becomes_a_task_with_the_arguments_and_options_of_its_entry():
    entry = the_entry(args=[1], kwargs={"b": 2}, options={"queue_name": "emails", "priority": 7})

    due = entry.due(NOON, NOON + 0.25)
    envelope = due.envelope

    assert (due.entry, due.slot) == ("nightly", NOON)
    assert (envelope.task, envelope.args, envelope.kwargs) == (ADD, [1], {"b": 2})
    assert (envelope.queue, envelope.priority) == ("emails", 7)
    assert (envelope.enqueued_at, envelope.run_after) == (NOON + 0.25, None)
    assert envelope.unique is None
    assert envelope.max_rescues == current().max_rescues


def test_each_slot_has_an_id_of_its_own():
    entry = the_entry()
    ids = {entry.due(NOON, NOON).envelope.id for _ in range(100)}

    assert len(ids) == 100
    assert {len(identity) for identity in ids} == {32}


def test_what_is_not_said_is_as_most_want_it():
    entry = the_entry()

    assert (entry.misfire, entry.jitter, entry.template.args, entry.template.kwargs) == (Misfire.LATEST, 0.0, [], {})


def test_times_are_in_the_time_zone_of_the_project_or_of_the_entry():
    daily = crontab(hour=5, minute=0)

    def fingerprint(zone):
        return timetable(daily, ZoneInfo(zone)).fingerprint

    with override_settings(TIME_ZONE="Asia/Tokyo"):
        assert the_entry(schedule=daily).timetable.fingerprint == fingerprint("Asia/Tokyo")
        in_paris = the_entry(schedule=daily, timezone="Europe/Paris")
    assert in_paris.timetable.fingerprint == fingerprint("Europe/Paris")


def test_a_plain_task_of_django_can_be_scheduled():
    entry = the_entry(task="tests.app.tasks.plain_add", options={"priority": 3})

    assert entry.due(NOON, NOON).envelope.priority == 3


def test_a_plain_task_of_django_cannot_be_unique(monkeypatch):
    # As Django 6.0 makes them; later it asks the backend for the class.
    plain: Task[Any, Any] = Task(
        func=tasks.add.func, backend="default", queue_name="default", priority=0, run_after=None
    )
    monkeypatch.setattr(tasks, "add", plain)

    problem = the_problem({"task": ADD, "schedule": 60, "options": {"unique": True}})

    assert problem.endswith("has options that need a task made with @task of django_vtasks: unique.")
    assert the_entry(options={"priority": 3}).template.priority == 3


def test_entries_from_the_environment_are_json(monkeypatch):
    monkeypatch.setenv("VTASKS_SCHEDULE", f'{{"nightly": {{"task": "{ADD}", "schedule": "0 5 * * *"}}}}')
    with override_settings(VTASKS_LEASE=15):  # makes the configuration be read again
        [entry] = entries.load("default")

    assert (entry.name, entry.task.module_path) == ("nightly", ADD)


# Jitter


def test_jitter_delays_each_slot_by_its_own_part_of_it_the_same_for_everybody():
    one, other = the_entry(jitter=30), the_entry(jitter=30)
    slots = [NOON + 60 * number for number in range(1000)]

    starts = [one.due(slot, slot).envelope.run_after or 0.0 for slot in slots]
    delays = [start - slot for start, slot in zip(starts, slots, strict=True)]

    assert starts == [other.due(slot, slot).envelope.run_after for slot in slots]
    assert min(delays) > 0.0
    assert max(delays) < 30.0
    assert 13.0 < sum(delays) / len(delays) < 17.0


def test_jitter_that_is_over_delays_nothing():
    entry = the_entry(jitter=timedelta(seconds=30))

    assert entry.jitter == 30.0
    assert entry.due(NOON, NOON + 31).envelope.run_after is None


def test_entries_of_the_same_slot_are_spread():
    schedule = {f"entry-{number}": {"task": ADD, "schedule": 60, "jitter": 30} for number in range(50)}

    delays = {entry.due(NOON, NOON).envelope.run_after for entry in entries.read(schedule).entries}

    assert len(delays) == 50


# Overlap


def test_without_overlap_all_runs_of_an_entry_have_one_lock_which_is_no_other_entrys():
    def lock(name):
        schedule = {name: {"task": ADD, "schedule": 60, "overlap": "skip"}}
        [entry] = entries.read(schedule).entries
        return entry.due(NOON, NOON).envelope.unique

    assert lock("nightly") == lock("nightly")
    assert lock("nightly").ttl is None
    assert not lock("nightly").keep
    assert lock("nightly").key != lock("hourly").key


def test_without_overlap_a_unique_task_keeps_its_own_lock():
    unique = {"unique": True, "unique_key": "mine"}
    own = the_entry(options=unique).template.unique

    assert own is not None
    assert the_entry(options=unique, overlap="skip").template.unique == own


# Bad entries


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shedule": 60}, "has an unknown key 'shedule'. Did you mean 'schedule'?"),
        ({"queue": "emails"}, "has an unknown key 'queue'"),
        ({1: 2}, "has an unknown key 1"),
        ({"schedule": "0 0 31 4 *"}, "has a schedule that is '0 0 31 4 *', which is never due"),
        ({"schedule": "* * *"}, "which has 3 fields"),
        ({"schedule": -5}, "has a schedule that must be at least 0.01"),
        ({"timezone": "Europe/Pari"}, "unknown time zone 'Europe/Pari'. Did you mean 'Europe/Paris'?"),
        ({"timezone": "../../etc/passwd"}, "unknown time zone"),
        ({"timezone": 2}, "unknown time zone 2"),
        ({"misfire": "latst"}, "has misfire = 'latst', which is none of latest, skip, all. Did you mean 'latest'?"),
        ({"misfire": ["all"]}, "has misfire = ['all'], which is none of"),
        ({"overlap": True}, "has overlap = True, which is none of allow, skip"),
        ({"jitter": -1}, "has jitter = -1"),
        ({"jitter": "5"}, "has jitter = '5'"),
        ({"jitter": float("nan")}, "has jitter = nan"),
        ({"task": "tests.app.tasks.ad"}, "has the task 'tests.app.tasks.ad', which cannot be imported"),
        ({"task": "nowhere.tasks.add"}, "which cannot be imported: No module named 'nowhere'"),
        ({"task": "add"}, "has the task 'add', which cannot be imported"),
        ({"task": len}, "which must be a dotted path"),
        ({"task": "builtins.len"}, "which is not a task. Decorate the function with @task"),
        ({"args": 5}, "must have a list or tuple as args, not of type int"),
        ({"args": "ab"}, "must have a list or tuple as args, not of type str"),
        ({"args": [object()]}, "has arguments that are not JSON"),
        ({"args": ["\ud800"]}, "has arguments that are not JSON"),
        ({"kwargs": [1]}, "must have a dictionary as kwargs, whose keys are names, not of type list"),
        ({"kwargs": {1: 2}}, "must have a dictionary as kwargs, whose keys are names"),
        ({"options": []}, "must have a dictionary as options"),
        ({"options": {"run_after": 5}}, "has an unknown option 'run_after'"),
        ({"options": {"priorty": 5}}, "has an unknown option 'priorty'. Did you mean 'priority'?"),
        ({"options": {"priority": 500}}, "has options that are not valid: priority must be"),
        ({"options": {"queue_name": "email"}}, "Did you mean 'emails'?"),
        ({"options": {"backend": "elsewhere"}}, "has options that are not valid"),
        ({"options": {"unique": True, "remove_unique_on_complete": False}}, "has options that are not valid"),
        ({"options": {"unique": True, "ttl": 5}, "overlap": "skip"}, "has overlap = 'skip'"),
    ],
)
def test_a_bad_entry_has_one_problem_that_names_it(change, message):
    problem = the_problem({"task": ADD, "schedule": 60} | change)

    assert problem.startswith("VTASKS_SCHEDULE['nightly'] ")
    assert message in problem
    assert "\n" not in problem
    assert not problem.endswith("..")


@pytest.mark.parametrize("name", ["", 5, " nightly", "x" * 101, "two\nlines", None])
def test_an_entry_must_have_a_name_that_every_store_can_hold(name):
    assert "must have a name of 1 to 100 printable characters" in the_problem({"task": ADD, "schedule": 60}, name)


@pytest.mark.parametrize("entry", [None, ADD, (ADD, 60)])
def test_an_entry_must_be_a_dictionary(entry):
    assert "must be a dictionary with 'task' and 'schedule'" in the_problem(entry)


@pytest.mark.parametrize("missing", ["task", "schedule"])
def test_an_entry_must_have_a_task_and_a_schedule(missing):
    entry = {"task": ADD, "schedule": 60}
    del entry[missing]

    assert the_problem(entry) == f"VTASKS_SCHEDULE['nightly'] has no {missing!r}."


def test_a_task_in_a_module_that_breaks_is_a_problem_not_a_crash(tmp_path, monkeypatch):
    (tmp_path / "breaks.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)

    problem = the_problem({"task": "breaks.task", "schedule": 60})

    assert problem.endswith("has the task 'breaks.task', which cannot be imported: division by zero.")


# What a scheduler runs


def test_bad_entries_are_logged_once_each_and_the_others_run(caplog):
    schedule = {
        "bad": {"task": ADD, "schedule": "never"},
        "good": {"task": ADD, "schedule": 60},
        "worse": {"task": "nowhere", "schedule": 60},
    }

    with override_settings(VTASKS_SCHEDULE=schedule):
        found = entries.load("default")

    assert [entry.name for entry in found] == ["good"]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [error.partition("]")[0] for error in errors] == ["VTASKS_SCHEDULE['bad'", "VTASKS_SCHEDULE['worse'"]
    assert all(error.endswith(" This entry does not run.") for error in errors)


def test_entries_of_other_backends_are_left_to_their_schedulers(caplog):
    caplog.set_level(logging.INFO)
    schedule = {
        "ours": {"task": ADD, "schedule": 60},
        "theirs": {"task": ADD, "schedule": 60, "options": {"backend": "immediate"}},
    }

    with override_settings(VTASKS_SCHEDULE=schedule):
        assert [entry.name for entry in entries.load("default")] == ["ours"]

    assert caplog.messages == ["Left to the schedulers of other backends: theirs (immediate)"]
