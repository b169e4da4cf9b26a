"""Claim → Outcome, whatever the function, the hook and the receivers do."""

import asyncio
import contextlib
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from django_vtasks.errors import TaskUnavailable
from django_vtasks.worker import lanes
from django_vtasks.worker.executor import Executor
from django_vtasks.worker.outcome import Cancelled, Failed, Postponed, Succeeded
from tests.unit.worker.doubles import Registered, SilentObserver, a_claim, as_task, soon, turns

both_kinds = pytest.mark.parametrize("kind", ["def", "async", "async later"])
colour: ContextVar[str] = ContextVar("colour", default="none")


class Stage:
    """An executor with what its claims ended in, in order."""

    def __init__(self, *functions, concurrency=4, hook=None, observer=None, takes_context=False):
        tasks = {function.__name__: as_task(function, takes_context=takes_context) for function in functions}
        self.observer = observer or SilentObserver()
        self.ends: list[Any] = []
        self.executor = Executor(
            Registered(**tasks),  # type: ignore[arg-type]
            self.observer,  # type: ignore[arg-type]
            concurrency,
            lambda *end: self.ends.append(end),
            hook=hook,
        )

    async def run(self, name, *args, **fields):
        """Run one claim; return its outcome."""
        claim = a_claim(*args, task=name, **fields)
        self.executor.start(claim)
        await soon(lambda: any(end[0] is claim for end in self.ends))
        [outcome] = [outcome for ended, outcome, _ in self.ends if ended is claim]
        return outcome


@pytest.fixture
def stage():
    made = []

    def make(*functions, **options):
        made.append(Stage(*functions, **options))
        return made[-1]

    yield make
    for each in made:
        each.executor.close()


def of_kind(kind, function):
    """Return the function as a `def` task, or as one of the two kinds of `async def` tasks."""
    if kind == "def":
        return function

    async def at_once(*args):
        return function(*args)

    async def later(*args):
        await asyncio.sleep(0)
        return function(*args)

    wrapped = at_once if kind == "async" else later
    wrapped.__name__ = function.__name__
    return wrapped


def throw(error):
    raise error


class TestOutcomes:
    @both_kinds
    async def test_what_returns_has_succeeded(self, stage, kind):
        seen = []
        work = of_kind(kind, lambda *args: seen.append(args))
        work.__name__ = "work"

        assert isinstance(await stage(work).run("work", 1, "two"), Succeeded)
        assert seen == [(1, "two")]

    @both_kinds
    @pytest.mark.parametrize(
        "error", [ValueError("no"), SystemExit(0), GeneratorExit(), asyncio.CancelledError(), BaseException("rare")]
    )
    async def test_what_raises_has_failed(self, stage, kind, error):
        def work():
            raise error

        outcome = await stage(of_kind(kind, work)).run("work")

        assert isinstance(outcome, Failed)
        assert outcome.failure.exception.endswith(type(error).__name__)
        assert "in work" in outcome.failure.traceback

    @both_kinds
    @pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"\xff", {"key": object()}])
    async def test_a_value_that_is_not_json_is_a_failure(self, stage, kind, value):
        def work():
            return value

        outcome = await stage(of_kind(kind, work)).run("work")

        assert isinstance(outcome, Failed)
        assert outcome.failure.exception in {"builtins.TypeError", "builtins.ValueError"}

    @both_kinds
    async def test_arguments_that_do_not_fit_are_a_failure(self, stage, kind):
        def work():
            raise AssertionError("never called")

        async def awork():
            raise AssertionError("never called")

        outcome = await stage(work, awork).run("work" if kind == "def" else "awork", "one too many")

        assert isinstance(outcome, Failed)
        assert outcome.failure.exception == "builtins.TypeError"

    async def test_an_unknown_task_and_an_unreadable_payload_fail_without_taking_any_time(self, stage):
        made = stage()
        unknown = await made.run("nowhere")
        unreadable = await made.run("", problem="the payload is torn")

        assert unknown.failure.exception == "django_vtasks.errors.UnknownTask"
        assert unreadable.failure == type(unreadable.failure)(
            "django_vtasks.errors.PayloadError", "the payload is torn", ""
        )
        assert [seconds for _, _, seconds in made.ends] == [None, None]
        assert [claim.problem for claim, _ in made.observer.rejects] == [None, "the payload is torn"]
        assert made.observer.starts == []

    @both_kinds
    async def test_the_seconds_that_a_run_took_are_told(self, stage, kind):
        def work():
            return None

        made = stage(of_kind(kind, work))
        await made.run("work")

        [(_, _, seconds)] = made.ends
        assert 0 <= seconds < 5

    async def test_a_task_without_a_thread_is_postponed(self, stage, monkeypatch):
        def no_thread(self):
            raise RuntimeError("can't start new thread")

        def work():
            raise AssertionError("never called")

        made = stage(work)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            outcome = await made.run("work")

        assert isinstance(outcome, Postponed)
        assert outcome.delay > 0

    async def test_one_of_the_loop_without_a_thread_for_the_orm_too_and_its_call_is_not_made_later(
        self, stage, monkeypatch
    ):
        def no_thread(self):
            raise RuntimeError("can't start new thread")

        called: list[int] = []

        async def work(number):
            await sync_to_async(called.append)(number)

        made = stage(work)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            outcome = await made.run("work", 1)

        assert isinstance(outcome, Postponed)
        assert isinstance(await made.run("work", 2), Succeeded)
        assert called == [2]
        assert [seconds is None for _, _, seconds in made.ends] == [True, False]


class TestContext:
    @both_kinds
    async def test_takes_context_gives_djangos_task_context_first(self, stage, kind):
        seen = []

        def work(context, number):
            seen.append((context.attempt, context.task_result.id, context.task_result.status, number))

        made = stage(of_kind(kind, work), takes_context=True)
        claim = a_claim(7, task="work", attempt=3)
        made.executor.start(claim)
        await soon(lambda: made.ends)

        assert seen == [(3, claim.envelope.id, "RUNNING", 7)]

    @both_kinds
    async def test_a_context_variable_that_one_task_sets_the_next_does_not_see(self, stage, kind):
        seen = []

        def paint(name):
            seen.append(colour.get())
            colour.set(name)

        made = stage(of_kind(kind, paint), concurrency=1)
        for name in ("red", "green", "blue"):
            await made.run("paint", name)

        assert seen == ["none"] * 3
        assert colour.get() == "none"


class TestHook:
    @both_kinds
    async def test_a_synchronous_one_surrounds_the_run(self, stage, kind):
        story = []

        @contextlib.contextmanager
        def hook(context):
            colour.set(context.task_result.id)
            story.append("begin")
            yield
            story.append("end")

        def work():
            story.append(colour.get())

        made = stage(of_kind(kind, work), hook=hook)
        await made.run("work")

        assert story == ["begin", made.ends[0][0].envelope.id, "end"]

    @both_kinds
    async def test_an_asynchronous_one_is_for_async_tasks_only(self, stage, kind):
        story = []

        @contextlib.asynccontextmanager
        async def hook(context):
            story.append("begin")
            await asyncio.sleep(0)
            yield
            story.append("end")

        def work():
            story.append("work")

        outcome = await stage(of_kind(kind, work), hook=hook).run("work")

        if kind == "def":
            assert isinstance(outcome, Failed)
            assert "VTASKS_TASK_CONTEXT" in outcome.failure.message
            assert story == []
        else:
            assert isinstance(outcome, Succeeded)
            assert story == ["begin", "work", "end"]

    @both_kinds
    @pytest.mark.parametrize("when", ["when it is called", "when it begins", "when it ends", "by being none"])
    async def test_one_that_fails_fails_the_task(self, stage, kind, when):
        calls = []

        @contextlib.contextmanager
        def manager():
            if when == "when it begins":
                raise PermissionError(when)
            yield
            raise PermissionError(when)

        def hook(context):
            if when == "when it is called":
                raise PermissionError(when)
            return None if when == "by being none" else manager()

        def work():
            calls.append(1)

        outcome = await stage(of_kind(kind, work), hook=hook).run("work")

        assert isinstance(outcome, Failed)
        assert (when in outcome.failure.message) or when == "by being none"
        assert calls == ([1] if when == "when it ends" else [])

    @both_kinds
    async def test_it_hears_of_the_exception_and_may_swallow_it(self, stage, kind):
        heard = []

        @contextlib.contextmanager
        def hook(context):
            try:
                yield
            except ValueError as error:
                heard.append(str(error))

        outcome = await stage(of_kind(kind, throw), hook=hook).run("throw", "not an exception at all")
        assert isinstance(outcome, Failed)

        def work():
            raise ValueError("swallowed")

        assert isinstance(await stage(of_kind(kind, work), hook=hook).run("work"), Succeeded)
        assert heard == ["swallowed"]


class TestReceivers:
    async def test_a_run_is_reported_once_at_each_end(self, stage):
        def work(number):
            return {"value": number}

        made = stage(work, of_kind("async", throw))
        await made.run("work", 7)
        await made.run("throw", "text")

        assert [run.claim.envelope.task for run in made.observer.starts] == ["work", "throw"]
        [(success, value), (failure, nothing)] = made.observer.ends
        assert (success.failure, value) == (None, {"value": 7})
        assert (failure.failure.exception, nothing) == ("builtins.TypeError", None)
        assert success.started_at <= success.finished_at

    @pytest.mark.parametrize("kind", ["async", "async later"])
    async def test_receivers_on_the_loop_are_awaited(self, stage, kind):
        story = []

        async def on_start():
            await asyncio.sleep(0)
            story.append("start")

        async def on_end():
            await asyncio.sleep(0)
            story.append("end")

        def work():
            story.append("work")

        made = stage(of_kind(kind, work), observer=SilentObserver(on_start=on_start, on_end=on_end))
        await made.run("work")

        assert story == ["start", "work", "end"]

    async def test_a_task_that_has_cancelled_itself_ends_once_all_the_same(self, stage):
        """Its cancellation strikes at the next await, which may be the executor's own."""

        async def on_end():
            await asyncio.sleep(0)

        async def work():
            current = asyncio.current_task()
            assert current is not None
            current.cancel()

        made = stage(work, observer=SilentObserver(on_end=on_end))
        made.executor.start(a_claim(task="work"))
        await turns(50)

        assert len(made.ends) == 1

    async def test_a_task_that_is_cancelled_while_its_end_is_told_has_ended(self, stage):
        gate = asyncio.Event()

        async def work():
            return "done"

        made = stage(work, observer=SilentObserver(on_end=gate.wait))
        made.executor.start(a_claim(task="work"))
        await turns()
        made.executor.cancel()
        gate.set()
        await turns(50)

        [(_, outcome, _)] = made.ends
        assert isinstance(outcome, Succeeded), "it would run again although it has returned"


class TestCancel:
    async def test_async_tasks_are_cancelled_and_not_failed(self, stage):
        cleaned = []

        async def work():
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(1)

        made = stage(work)
        made.executor.start(a_claim(task="work"))
        await turns()
        made.executor.cancel()
        await soon(lambda: made.ends)

        [(_, outcome, seconds)] = made.ends
        assert isinstance(outcome, Cancelled)
        assert seconds is None
        assert cleaned == [1]
        assert made.observer.ends == []

    async def test_one_that_ends_in_spite_of_it_has_ended(self, stage):
        async def saves_itself():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return "saved"

        async def fails():
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("on the way out")

        made = stage(saves_itself, fails)
        for name in ("saves_itself", "fails"):
            made.executor.start(a_claim(task=name))
        await turns()
        made.executor.cancel()
        await soon(lambda: len(made.ends) == 2)

        outcomes = {claim.envelope.task: outcome for claim, outcome, _ in made.ends}
        assert isinstance(outcomes["saves_itself"], Succeeded)
        assert isinstance(outcomes["fails"], Failed)

    async def test_threads_go_on(self, stage):
        gate = threading.Event()

        def work():
            return gate.wait(30)

        made = stage(work)
        made.executor.start(a_claim(task="work"))
        made.executor.cancel()
        await turns()
        assert made.ends == []
        gate.set()
        await soon(lambda: made.ends)

        assert isinstance(made.ends[0][1], Succeeded)


class TestConcurrency:
    async def test_def_tasks_run_at_a_time_up_to_the_limit(self, stage):
        meeting = threading.Barrier(6)

        def work():
            meeting.wait(20)

        made = stage(work, concurrency=6)
        for _ in range(6):
            made.executor.start(a_claim(task="work"))
        await soon(lambda: len(made.ends) == 6, within=20)

        assert {type(outcome) for _, outcome, _ in made.ends} == {Succeeded}

    async def test_a_task_that_never_waits_has_ended_when_it_was_started(self, stage):
        async def work():
            return None

        made = stage(work)
        made.executor.start(a_claim(task="work"))

        assert len(made.ends) == 1

    async def test_a_def_task_does_not_hold_up_the_loop(self, stage):
        gate = threading.Event()

        def work():
            gate.wait(30)

        async def other():
            await asyncio.sleep(0)

        made = stage(work, other, concurrency=2)
        made.executor.start(a_claim(task="work"))
        assert isinstance(await made.run("other"), Succeeded)
        assert len(made.ends) == 1
        gate.set()
        await soon(lambda: len(made.ends) == 2)

    async def test_the_limit_of_threads_holds(self, stage, monkeypatch):
        monkeypatch.setattr(lanes, "LOOK_EVERY", 0.0005)
        running, most, lock = 0, 0, threading.Lock()

        def work():
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.002)
            with lock:
                running -= 1

        made = stage(work, concurrency=5)
        for _ in range(60):
            made.executor.start(a_claim(task="work"))
        await soon(lambda: len(made.ends) == 60)

        assert most <= 5


class HalfDeployed:
    """A registry whose modules cannot be imported."""

    def find(self, path):
        raise TaskUnavailable(f"The module of task {path!r} could not be imported.")


async def test_a_task_whose_module_cannot_be_imported_is_postponed_and_nobody_hears_of_it(stage):
    made = stage()
    made.executor._registry = HalfDeployed()

    assert await made.run("demo.tasks.send") == Postponed(30.0)
    assert (made.observer.starts, made.observer.ends, made.observer.rejects) == ([], [], [])
