"""Batch → Outcomes, whatever the functions, their answers, the hook and the receivers do."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from django_vtasks.errors import BatchFailed
from django_vtasks.worker.batch_executor import BatchExecutor
from django_vtasks.worker.lanes import ThreadLanes
from django_vtasks.worker.outcome import CANCELLED, SUCCEEDED, Failed, Postponed
from tests.unit.worker.doubles import Registered, SilentObserver, a_claim, as_task, soon, turns

both_kinds = pytest.mark.parametrize("kind", ["def", "async", "async later"])


class Stage:
    """An executor with what its claims ended in, in order."""

    def __init__(self, *functions, hook=None, observer=None, with_context=()):
        tasks = {
            function.__name__: as_task(function, takes_context=function.__name__ in with_context)
            for function in functions
        }
        self.observer = observer or SilentObserver()
        self.ends: list[Any] = []
        self.executor = BatchExecutor(
            Registered(**tasks),  # type: ignore[arg-type]
            self.observer,  # type: ignore[arg-type]
            4,
            lambda *end: self.ends.append(end),
            hook=hook,
        )

    async def run(self, *names):
        """Run a batch with a member of each function named; return their outcomes in this order."""
        return await self.run_claims([a_claim(number, task=name) for number, name in enumerate(names)])

    async def run_claims(self, claims):
        self.executor.start_batch(claims)
        await soon(lambda: len(self.ends) >= len(claims), within=5)
        await turns()
        assert len(self.ends) == len(claims), "each has ended once"
        outcomes = {id(claim): outcome for claim, outcome, _ in self.ends}
        return [outcomes[id(claim)] for claim in claims]


@pytest.fixture
def stage():
    made = []

    def make(*functions, **options):
        made.append(Stage(*functions, **options))
        return made[-1]

    yield make
    for each in made:
        each.executor.close()


def of_kind(kind, function, name="work"):
    """Return a function of members as a `def` task, or as one of the two kinds of `async def` tasks."""

    def work(members):
        return function(members)

    async def at_once(members):
        return function(members)

    async def later(members):
        await asyncio.sleep(0)
        return function(members)

    made: Any = {"def": work, "async": at_once, "async later": later}[kind]
    made.__name__ = made.__qualname__ = name
    return made


def throw(error):
    raise error


def reasons(outcomes):
    """Return the names of the exceptions by which members have failed; None for those that have not."""
    return [
        outcome.failure.exception.rpartition(".")[2] if isinstance(outcome, Failed) else None for outcome in outcomes
    ]


class TestCalls:
    @both_kinds
    async def test_a_function_is_called_once_with_all_its_members_in_order(self, stage, kind):
        calls: list[Any] = []
        made = stage(of_kind(kind, calls.append))

        assert await made.run("work", "work", "work") == [SUCCEEDED] * 3
        [members] = calls
        assert [member["args"] for member in members] == [[0], [1], [2]]

    @both_kinds
    async def test_each_function_is_called_with_its_own_members(self, stage, kind):
        calls: dict[str, Any] = {}
        made = stage(
            of_kind(kind, lambda members: calls.update(one=members), "one"),
            of_kind("def", lambda members: calls.update(two=members), "two"),
        )
        await made.run("one", "two", "one", "two")

        assert {name: [member["args"][0] for member in members] for name, members in calls.items()} == {
            "one": [0, 2],
            "two": [1, 3],
        }

    async def test_functions_run_beside_each_other(self, stage):
        together = threading.Barrier(2, timeout=5)
        made = stage(
            of_kind("def", lambda _: together.wait(), "one"),
            of_kind("def", lambda _: together.wait(), "two"),
        )

        assert reasons(await made.run("one", "two")) == [None, None]

    async def test_a_single_claim_is_a_batch_of_one(self, stage):
        calls: list[Any] = []
        made = stage(of_kind("async", calls.append))
        made.executor.start(a_claim(7, task="work"))
        await soon(lambda: made.ends)

        assert [[member["args"] for member in members] for members in calls] == [[[7]]]

    async def test_what_a_function_does_to_its_list_changes_nothing(self, stage):
        def clear(members):
            members[0]["id"] = "another"
            members.clear()

        assert await stage(of_kind("def", clear)).run("work", "work") == [SUCCEEDED] * 2

    async def test_where_no_thread_can_be_had_all_members_come_back_later(self, stage, monkeypatch):
        def refuse(self, function):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(ThreadLanes, "submit", refuse)
        outcomes = await stage(of_kind("def", throw)).run("work", "work")

        assert [type(outcome) for outcome in outcomes] == [Postponed] * 2

    async def test_so_they_do_where_a_batch_of_the_loop_gets_no_thread_for_the_orm(self, stage, monkeypatch):
        def refuse(self):
            raise RuntimeError("can't start new thread")

        async def work(members):
            await sync_to_async(members.clear)()

        made = stage(work)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            outcomes = await made.run("work", "work")

        assert [type(outcome) for outcome in outcomes] == [Postponed] * 2

    @both_kinds
    async def test_each_member_took_as_long_as_the_batch(self, stage, kind):
        made = stage(of_kind(kind, lambda _: None))
        await made.run("work", "work")

        [first, second] = [seconds for _, _, seconds in made.ends]
        assert 0 <= first == second < 5


class TestMembersThatCannotRun:
    async def test_they_fail_alone_and_the_others_run(self, stage):
        calls: list[Any] = []
        made = stage(
            of_kind("def", calls.append),
            of_kind("def", throw, "contextual"),
            with_context={"contextual"},
        )
        claims = [
            a_claim(0, task="work"),
            a_claim(1, task="work", problem="the payload is torn"),
            a_claim(2, task="nowhere"),
            a_claim(3, task="contextual"),
            a_claim(4, task="work"),
        ]
        outcomes = await made.run_claims(claims)

        assert reasons(outcomes) == [None, "PayloadError", "UnknownTask", "InvalidTask", None]
        assert "takes_context has no meaning there" in outcomes[3].failure.message
        assert [[member["args"] for member in members] for members in calls] == [[[0], [4]]]
        assert [claim.envelope.args for claim, _ in made.observer.rejects] == [[1], [2], [3]]
        assert [run.claim.envelope.args for run in made.observer.starts] == [[0], [4]]

    async def test_a_batch_of_nothing_else_calls_nothing(self, stage):
        outcomes = await stage().run_claims([a_claim(task="nowhere"), a_claim(problem="torn")])

        assert reasons(outcomes) == ["UnknownTask", "PayloadError"]


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses every assignment, that of a traceback too."""

    reason: str = "frozen"


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Unreadable(Mapping):
    def __getitem__(self, key):
        raise RuntimeError("gone")

    def __iter__(self):
        raise RuntimeError("gone")

    def __len__(self):
        return 1


class OwnWords(BatchFailed):
    """A project's exception that knows nothing of its base's attribute."""

    def __init__(self):
        Exception.__init__(self, "own words")


ERRORS = [
    ValueError("no"), SystemExit(0), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(),
    BaseException("rare"), Frozen(), Mute(), OwnWords(),
]  # fmt: skip


class TestFates:
    @both_kinds
    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
    async def test_whatever_it_raises_is_the_failure_of_all_its_members_and_of_no_others(self, stage, kind, error):
        made = stage(of_kind(kind, lambda _: throw(error)), of_kind("async", len, "other"))
        outcomes = await made.run("work", "other", "work")

        assert reasons(outcomes) == [type(error).__name__, None, type(error).__name__]
        assert "in throw" in outcomes[0].failure.traceback
        assert outcomes[0].failure == outcomes[2].failure

    @both_kinds
    @pytest.mark.parametrize("error", [*ERRORS, StopIteration()], ids=lambda error: type(error).__name__)
    @pytest.mark.parametrize("how", ["returns", "raises"])
    async def test_it_may_name_those_that_failed_and_why(self, stage, kind, error, how):
        def name_one(members):
            fates = {members[1]["id"]: error}
            return fates if how == "returns" else throw(BatchFailed(fates))

        made = stage(of_kind(kind, name_one))

        assert reasons(await made.run("work", "work", "work")) == [None, type(error).__name__, None]

    @both_kinds
    async def test_an_answer_that_cannot_be_read_is_the_failure_of_all(self, stage, kind):
        made = stage(of_kind(kind, lambda _: Unreadable()))

        assert reasons(await made.run("work", "work")) == ["RuntimeError", "RuntimeError"]

    @both_kinds
    async def test_after_a_failure_the_next_batch_runs(self, stage, kind):
        """No thread has died, and no lane is left blocked."""
        made = stage(of_kind(kind, lambda _: throw(Frozen())), of_kind(kind, len, "other"))
        for _ in range(6):
            assert reasons(await made.run("work")) == ["Frozen"]
            made.ends.clear()

        assert await made.run("other") == [SUCCEEDED]

    @both_kinds
    async def test_the_trace_of_an_error_that_many_share_does_not_grow(self, stage, kind):
        error = ValueError("shared")
        made = stage(of_kind(kind, lambda _: throw(error)))
        await made.run(*["work"] * 50)

        depth, trace = 0, error.__traceback__
        while trace is not None:
            depth, trace = depth + 1, trace.tb_next
        assert depth < 10


class Witness(SilentObserver):
    """Keeps what is being handled when it hears of an end, as Django's own receiver does for the log."""

    def __init__(self):
        super().__init__()
        self.seen: list[BaseException | None] = []

    def finished(self, run, value):
        super().finished(run, value)
        self.seen.append(sys.exception())


class TestReceivers:
    @both_kinds
    async def test_they_hear_of_each_member_with_its_own_error_at_hand(self, stage, kind):
        odd, even = ValueError("odd"), KeyError("even")
        made = stage(of_kind(kind, lambda members: {members[0]["id"]: even, members[1]["id"]: odd}), observer=Witness())
        await made.run("work", "work", "work")

        assert made.observer.seen == [even, odd, None]
        assert [run.claim.envelope.args for run in made.observer.starts] == [[0], [1], [2]]
        assert [run.failure is None for run, _ in made.observer.ends] == [False, False, True]
        assert all(run.finished_at >= run.started_at for run, _ in made.observer.ends)

    @both_kinds
    async def test_what_they_raise_changes_nothing(self, stage, kind, caplog):
        class Failing(SilentObserver):
            def started(self, run):
                raise SystemExit("a receiver's own idea")

            def finished(self, run, value):
                raise ValueError("a receiver's own trouble")

        made = stage(of_kind(kind, lambda members: {members[0]["id"]: KeyError()}), observer=Failing())

        assert reasons(await made.run("work", "work")) == ["KeyError", None]
        assert caplog.text.count("A receiver failed on task") == 4

    async def test_those_that_need_the_loop_are_waited_for(self, stage):
        story = []

        async def pause():
            await asyncio.sleep(0)
            story.append("pause")

        made = stage(of_kind("async", len), observer=SilentObserver(on_start=pause, on_end=pause))

        assert await made.run("work", "work") == [SUCCEEDED] * 2
        assert len(made.observer.starts) == len(made.observer.ends) == 2
        assert story == ["pause"] * 2, "once for all members"


class TestHook:
    @both_kinds
    async def test_it_is_around_the_call(self, stage, kind):
        seen: list[Any] = []

        @contextlib.contextmanager
        def hook(context):
            seen.append(context.attempt)
            yield
            seen.append("after")

        made = stage(of_kind(kind, lambda members: seen.append(len(members))), hook=hook)
        await made.run("work", "work")

        assert seen == [1, 2, "after"]

    @both_kinds
    async def test_one_that_swallows_what_the_function_raises_lets_all_succeed(self, stage, kind):
        made = stage(of_kind(kind, lambda _: throw(ValueError())), hook=lambda _: contextlib.suppress(ValueError))

        assert await made.run("work", "work") == [SUCCEEDED] * 2

    @both_kinds
    async def test_one_that_refuses_fails_all(self, stage, kind):
        made = stage(of_kind(kind, len), hook=lambda _: throw(PermissionError()))

        assert reasons(await made.run("work", "work")) == ["PermissionError"] * 2


class TestCancel:
    async def test_what_runs_on_the_loop_goes_back_with_all_its_members(self, stage):
        entered = asyncio.Event()

        async def work(members):
            entered.set()
            await asyncio.Event().wait()

        made = stage(work)
        running = asyncio.create_task(made.run("work", "work"))
        await entered.wait()
        made.executor.cancel()

        assert await running == [CANCELLED] * 2
        assert made.observer.ends == []

    async def test_a_function_that_finishes_although_cancelled_has_finished(self, stage):
        entered = asyncio.Event()

        async def work(members):
            entered.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        made = stage(work)
        running = asyncio.create_task(made.run("work", "work"))
        await entered.wait()
        made.executor.cancel()

        assert await running == [SUCCEEDED] * 2

    async def test_one_that_cancels_itself_has_failed(self, stage):
        async def work(members):
            current = asyncio.current_task()
            assert current is not None
            current.cancel()
            await asyncio.sleep(0)

        assert reasons(await stage(work).run("work", "work")) == ["CancelledError"] * 2
