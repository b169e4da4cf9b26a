"""From a call to its envelope: ids, keys of unique tasks, times, and where a bulk's calls go."""

import copy
import hashlib
import itertools
import json
import os
import pickle
import random
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from django.tasks import Task, TaskResult, TaskResultStatus
from django.tasks.exceptions import InvalidTask
from django.test import override_settings

from django_vtasks import identity, results
from django_vtasks.backends.base import BrokerBackend
from django_vtasks.brokers.memory import MemoryBroker
from django_vtasks.envelope import Unique
from django_vtasks.errors import PayloadTooLarge
from django_vtasks.publishing import Template, parse_calls
from django_vtasks.wire import MAX_BYTES
from tests.app.tasks import accept, add, forget, move, multiply, plain_add, take

ROOT = Path(__file__).parents[2]
TIMEOUT = 60


@pytest.fixture(autouse=True)
def queues():
    with override_settings(VTASKS_QUEUES=["emails", "low_priority"]):
        yield


def envelope(task, *args, **kwargs):
    return Template(task, max_rescues=2).filled(args, kwargs)


def key(task, *args, **kwargs):
    """Return the key of a unique task's lock."""
    unique = envelope(task.using(unique=True), *args, **kwargs).unique
    assert unique is not None
    return unique.key


def in_another_process(program, **variables):
    """Return the lines that a program prints in a fresh Python with Django set up."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import django; django.setup()\n{program}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# The envelope


def test_an_envelope_says_what_the_task_and_the_call_say():
    before = time.time()
    made = envelope(add.using(queue_name="emails", priority=7), 1, b=2)

    assert (made.task, made.queue, made.priority) == ("tests.app.tasks.add", "emails", 7)
    assert (made.args, made.kwargs) == ([1], {"b": 2})
    assert before <= made.enqueued_at <= time.time()
    assert (made.run_after, made.unique, made.attempt, made.crashes, made.max_rescues) == (None, None, 0, 0, 2)


NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("moment", [NOON, NOON.astimezone(timezone(timedelta(hours=9)))], ids=["UTC", "Tokyo"])
def test_a_run_after_is_a_moment_whatever_its_time_zone(moment):
    assert envelope(add.using(run_after=moment)).run_after == NOON.timestamp()


def test_a_run_after_without_time_zone_is_in_the_projects(monkeypatch):
    with override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo"):
        made = envelope(add.using(run_after=datetime(2030, 6, 1, 21)))  # noqa: DTZ001 - naive on purpose

    assert made.run_after == NOON.timestamp()


def test_a_plain_django_task_has_no_lock():
    plain: Task[..., int] = Task(
        func=add.func, priority=5, backend="default", queue_name="emails", run_after=None, takes_context=False
    )

    made = envelope(plain, 1)

    assert (made.task, made.queue, made.priority, made.unique) == ("tests.app.tasks.add", "emails", 5, None)


# Ids


def test_an_id_has_thirty_two_hexadecimal_digits():
    assert {len(envelope(forget).id) for _ in range(1000)} == {32}
    assert int(envelope(forget).id, 16) < 2**128


def test_a_hundred_thousand_ids_are_all_different():
    template = Template(forget, max_rescues=0)

    assert len({template.filled((), {}).id for _ in range(100_000)}) == 100_000


def test_ids_that_are_made_together_are_different_from_each_other_and_from_others():
    alone = [identity.new() for _ in range(identity.AT_ONCE)]
    together = identity.several(1000)

    assert len({*alone, *together}) == identity.AT_ONCE + 1000
    assert {len(one) for one in together} == {32}
    assert identity.several(0) == []


def test_the_seed_of_the_project_does_not_repeat_ids():
    state = random.getstate()
    try:
        ids = []
        for _ in range(3):
            random.seed(42)
            ids += [envelope(forget).id for _ in range(100)]
    finally:
        random.setstate(state)

    assert len(set(ids)) == 300


def test_a_project_that_counts_on_its_seed_gets_its_numbers():
    state = random.getstate()
    try:
        random.seed(42)
        undisturbed = random.random()
        random.seed(42)
        envelope(forget)
        disturbed = random.random()
    finally:
        random.setstate(state)

    assert disturbed == undisturbed


IDS_OF_PARENT_AND_CHILDREN = """
import os
from django_vtasks.publishing import Template
from tests.app.tasks import forget

def show():
    os.write(1, "".join(f"{Template(forget, max_rescues=0).filled((), {}).id}\\n" for _ in range(100)).encode())

show()
for _ in range(3):
    if not (pid := os.fork()):
        show()
        os._exit(0)
    os.waitpid(pid, 0)
show()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system cannot fork.")
def test_a_forked_process_does_not_repeat_the_ids_of_its_parent_or_siblings():
    ids = in_another_process(IDS_OF_PARENT_AND_CHILDREN)

    assert len(ids) == len(set(ids)) == 500


# Keys of unique tasks

ARGUMENTS = ([1, "é", [2.5, None, True]], {"b": {"y": 1, "x": [2**70]}, "a": "漢字"})


def test_the_automatic_key_is_the_digest_of_canonical_json_of_path_and_arguments():
    args, kwargs = ARGUMENTS
    canonical = json.dumps(
        ["tests.app.tasks.take", args, kwargs], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )

    assert key(take, *args, **kwargs) == hashlib.sha256(canonical.encode()).hexdigest()


PRINT_THE_KEY = """
from tests.unit.test_publishing import ARGUMENTS, key
from tests.app.tasks import take
args, kwargs = ARGUMENTS
print(key(take, *args, **dict(reversed(kwargs.items()))))
"""


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_automatic_key_is_the_same_in_every_process(seed):
    args, kwargs = ARGUMENTS

    assert in_another_process(PRINT_THE_KEY, PYTHONHASHSEED=seed) == [key(take, *args, **kwargs)]


def test_the_order_of_keyword_arguments_does_not_matter():
    assert key(accept, a=1, b={"c": 2, "d": 3}) == key(accept, b={"d": 3, "c": 2}, a=1)


def test_what_becomes_the_same_json_has_the_same_key():
    assert key(take, (1, 2)) == key(take, [1, 2])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (key(add, 1), key(add, 2)),
        (key(add, 1), key(multiply, 1)),
        (key(add, 1), key(add, a=1)),
        (key(add, 1), key(add, "1")),
        (key(take), key(take, None)),
        (key(take, 1, 2), key(take, [1, 2])),
        (key(take, 1), key(take, *[True])),
        (key(take, "a", "b"), key(take, "a,b")),
        (key(accept, a=1), key(accept, b=1)),
        (key(accept, a="b"), key(accept, b="a")),
        (key(take, {}), key(take, [])),
    ],
)
def test_different_calls_have_different_keys(one, other):
    assert one != other


CALLS: list[tuple[Any, tuple[int]]] = [(add, (1,)), (add, (2,)), (multiply, (1,))]


def test_a_key_that_is_given_decides_alone():
    keys = {
        key(task.using(unique_key="user-5", queue_name=queue, priority=priority), *args)
        for task, args in CALLS
        for queue, priority in [("default", 0), ("emails", 10)]
    }

    assert len(keys) == 1


@pytest.mark.parametrize("given", ["user-6", "User-5", "user-5 ", "x" * 1000, "漢字"])
def test_different_given_keys_differ(given):
    assert key(add.using(unique_key=given), 1) != key(add.using(unique_key="user-5"), 1)


def test_the_queue_and_the_priority_have_no_part_in_the_automatic_key():
    assert key(add.using(queue_name="emails", priority=10, run_after=NOON), 1) == key(add, 1)


def test_every_key_has_sixty_four_hexadecimal_digits():
    keys = [key(add, 1), key(add.using(unique_key="x" * 5000), 1), key(take, "x" * 5000)]

    assert [len(f"{int(key, 16):064x}") for key in keys] == [64, 64, 64]


def test_a_mutex_and_a_throttle_are_told_apart():
    mutex = envelope(add.using(unique=True, unique_key="a"), 1).unique
    brief = envelope(add.using(unique=True, unique_key="a", ttl=5), 1).unique
    throttle = envelope(add.using(unique=True, unique_key="a", ttl=60, remove_unique_on_complete=False), 1).unique

    assert (mutex, brief, throttle) == (
        Unique(mutex.key, None, keep=False),
        Unique(mutex.key, 5, keep=False),
        Unique(mutex.key, 60, keep=True),
    )


def test_a_key_without_unique_is_no_lock():
    assert envelope(add.using(unique_key="user-5", ttl=60), 1).unique is None


# Bulk: where a call goes


def parsed(*items):
    """Return queue, args and kwargs of each call."""
    return [(task.queue_name, tuple(args), kwargs) for task, args, kwargs in parse_calls(items)]


def test_a_triple_is_a_call():
    assert list(parse_calls([(add, (1,), {"b": 2})])) == [(add, (1,), {"b": 2})]


def test_a_queue_name_among_the_arguments_routes_the_task_and_is_no_argument():
    assert parsed((forget, (), {"queue_name": "low_priority"})) == [("low_priority", (), {})]
    assert parsed((add, (1,), {"b": 2, "queue_name": "emails"})) == [("emails", (1,), {"b": 2})]


def test_a_routed_task_keeps_its_other_options():
    task = add.using(unique=True, unique_key="a", priority=5, run_after=NOON)

    [(routed, *_)] = parse_calls([(task, (1,), {"queue_name": "emails"})])

    assert routed == task.using(queue_name="emails")


def test_a_plain_django_task_is_routed_too():
    assert parsed((plain_add, (1,), {"queue_name": "emails"})) == [("emails", (1,), {})]


def test_a_function_with_a_queue_name_of_its_own_keeps_it():
    assert parsed((move, (1,), {"queue_name": "emails"})) == [("default", (1,), {"queue_name": "emails"})]


def test_a_function_that_accepts_any_keyword_keeps_it():
    assert parsed((accept, (), {"queue_name": "anything", "a": 1})) == [
        ("default", (), {"queue_name": "anything", "a": 1})
    ]


@pytest.mark.parametrize("name", ["priority", "run_after", "backend", "unique", "unique_key", "ttl", "queue"])
def test_no_other_keyword_is_ever_taken_away(name):
    assert parsed((accept, (), {name: 1}), (forget, (), {name: 1})) == [("default", (), {name: 1})] * 2


def test_the_callers_arguments_are_left_alone():
    kwargs = {"queue_name": "emails"}

    parsed((forget, (), kwargs), (forget, (), kwargs))

    assert kwargs == {"queue_name": "emails"}


@pytest.mark.parametrize("queue", ["low-priority", "", 5, ["emails"]])
def test_a_call_for_an_unknown_queue_is_refused(queue):
    with pytest.raises(InvalidTask, match=r"^Queue "):
        parsed((forget, (), {"queue_name": queue}))


@pytest.mark.parametrize(
    "item",
    [add, None, 5, "text", (), (add,), (add, (1,)), (add, (1,), {}, "more"), {add: (1,)}],
    ids=["task", "None", "number", "text", "nothing", "one", "two", "four", "dict"],
)
def test_what_is_no_triple_is_a_type_error_with_its_position(item):
    with pytest.raises(TypeError, match=r"^Item 2 is not a \(task, args, kwargs\) triple"):
        parsed((add, (1,), {}), (add, (2,), {}), item)


@pytest.mark.parametrize(("args", "kwargs"), [(5, {}), (None, {}), ("text", {}), ((), None), ((), [1])])
def test_a_triple_with_arguments_of_a_wrong_kind_is_a_type_error_with_its_position(args, kwargs):
    with pytest.raises(TypeError, match=r"^Item 1 "):
        parsed((add, (1,), {}), (take, args, kwargs))


@pytest.mark.parametrize(
    "item",
    [("s3cret", "s3cret"), (add, {"s3cret"}, {}), (add, "s3cret", {}), (add, (), ["s3cret"]), ("s3cret", (), {})],
    ids=["triple", "args", "text", "kwargs", "task"],
)
def test_an_error_about_a_call_does_not_tell_its_arguments(item):
    with pytest.raises((TypeError, InvalidTask), match=r"^Item 0 ") as caught:
        parsed(item)

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("function", [add.func, "tests.app.tasks.add", None, len])
def test_a_function_that_is_no_task_is_refused_with_its_position(function):
    with pytest.raises(InvalidTask, match=r"^Item 1 is not a task"):
        parsed((add, (1,), {}), (function, (), {}))


def test_calls_are_taken_one_by_one_as_an_iterator_gives_them():
    calls = iter(parse_calls((add, (number,), {}) for number in itertools.count()))

    assert [next(calls)[1] for _ in range(3)] == [(0,), (1,), (2,)]


# Size


class MemoryBackend(BrokerBackend):
    """A backend on a broker of its own."""

    def __init__(self, alias, params):
        super().__init__(alias, params)
        self._broker = MemoryBroker()

    @property
    def broker(self):
        return self._broker


@pytest.fixture
def backend():
    return MemoryBackend("default", {})


def test_too_large_arguments_are_refused_at_the_enqueue_and_nothing_is_stored(backend):
    large = "x" * MAX_BYTES

    with pytest.raises(PayloadTooLarge, match=r"tests\.app\.tasks\.take.*16,777,216"):
        backend.enqueue(take.using(unique=True), [large], {})
    with pytest.raises(PayloadTooLarge):
        backend.enqueue_many([(take, [1], {}), (take.using(unique=True), [large], {})])

    assert backend.broker.queues() == []


async def test_too_large_arguments_are_refused_on_the_loop_too(backend):
    with pytest.raises(PayloadTooLarge):
        await backend.aenqueue(take, ["x" * MAX_BYTES], {})

    assert backend.broker.queues() == []


def test_the_result_of_an_enqueue_is_a_task_result_to_whoever_looks():
    sent = envelope(add, 1, b=2)
    lazy, plain = results.enqueued(add, sent, "default"), results.build(add, sent, "default")

    assert isinstance(lazy, TaskResult)
    assert lazy == plain
    assert plain == results.enqueued(add, sent, "default")
    assert repr(results.enqueued(add, sent, "default")) == repr(plain)
    assert pickle.loads(pickle.dumps(results.enqueued(add, sent, "default"))) == plain  # noqa: S301
    assert type(copy.deepcopy(results.enqueued(add, sent, "default"))) is TaskResult
    assert lazy != results.build(add, envelope(add, 1, b=2), "default")
    assert replace(lazy, status=TaskResultStatus.FAILED) != plain
    assert (lazy.id, lazy.args, lazy.kwargs, lazy.attempts) == (sent.id, [1], {"b": 2}, 0)


def test_the_result_of_an_enqueue_has_no_field_that_django_does_not_know():
    with pytest.raises(AttributeError, match="colour"):
        getattr(results.enqueued(add, envelope(add), "default"), "colour")  # noqa: B009
    with pytest.raises(FrozenInstanceError):
        results.enqueued(add, envelope(add), "default").id = "another"
