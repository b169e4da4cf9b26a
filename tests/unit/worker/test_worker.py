"""One actor as a whole, against a store in memory: from the first claim to the end of its drain."""

import asyncio
import contextlib
import threading
import time

import pytest

from django_vtasks.brokers.base import Death, Depth, Owner
from django_vtasks.worker import fetcher, outage
from django_vtasks.worker.completer import Completer
from django_vtasks.worker.fetcher import Fetcher
from django_vtasks.worker.flight import ID_WIDTH, running_ids
from django_vtasks.worker.worker import LAST_WORDS, QueueWorker, Recipe
from tests.contract.given import a_task
from tests.unit.worker.doubles import OWNER, Registered, SilentObserver, a_broker, as_task, soon, turns
from vtasks_supervisor.recorder import Recorder


@pytest.fixture
def broker():
    return a_broker()


@pytest.fixture
def failures():
    """What actors have ended by."""
    return []


@pytest.fixture
async def actor(broker, failures, monkeypatch):
    monkeypatch.setattr(outage, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(fetcher, "EMPTY_PAUSE", 0.001)
    made = []

    def make(function, *, concurrency=4, **options):
        worker = QueueWorker(
            Recipe(
                broker=broker,
                owner=OWNER,
                queue="mail",
                concurrency=concurrency,
                registry=Registered(**{"demo.tasks.send": as_task(function)}),  # type: ignore[arg-type]
                observer=SilentObserver(),  # type: ignore[arg-type]
                **options,
            )
        )
        made.append(worker)
        worker.start(failures.append)
        return worker

    yield make
    for worker in made:
        for duty in (worker._fetching, worker._completing):
            if duty is not None:
                duty.cancel()
                await asyncio.wait({duty})
        worker._executor.close()


def push(broker, count):
    broker.push([a_task(number) for number in range(count)])


def drain(worker, timeout, at_once=None):
    return worker.drain(timeout, at_once=at_once or asyncio.Event())


def nothing(number):
    pass


async def timed(awaitable):
    began = time.monotonic()
    return await awaitable, time.monotonic() - began


@pytest.mark.parametrize("kind", ["def", "async"])
async def test_tasks_run_and_nothing_is_left(broker, actor, kind):
    seen = []

    def send(number):
        seen.append(number)

    async def asend(number):
        seen.append(number)

    push(broker, 500)
    actor(send if kind == "def" else asend)
    await soon(lambda: broker.depth("mail") == Depth(0, 0, 0))

    assert sorted(seen) == list(range(500))
    assert broker.failed() == []


async def test_no_more_tasks_run_at_a_time_than_its_concurrency(broker, actor):
    gate, running = asyncio.Event(), []

    async def send(number):
        running.append(number)
        await gate.wait()

    push(broker, 10)
    worker = actor(send, concurrency=3)
    await soon(lambda: len(running) == 3)
    await turns(100)
    assert len(running) == 3
    gate.set()
    await soon(lambda: broker.depth("mail") == Depth(0, 0, 0))

    assert len(running) == 10
    assert await drain(worker, 5.0)


async def test_idle_rounds_are_counted_only_while_nothing_runs_and_all_is_settled(broker, actor):
    gate = asyncio.Event()

    async def send(number):
        await gate.wait()

    worker = actor(send, wait=0.0)
    await soon(lambda: worker.idle_rounds >= 2)
    push(broker, 1)
    await soon(lambda: worker.idle_rounds == 0)
    await turns(100)
    assert worker.idle_rounds == 0
    broker.trouble["settle"] = OSError("closed")
    gate.set()
    await soon(lambda: broker.settled)
    assert worker.idle_rounds == 0
    broker.trouble.clear()

    await soon(lambda: worker.idle_rounds >= 2)


class TestDrain:
    async def test_of_one_that_never_started_ends_at_once(self, broker):
        worker = QueueWorker(
            Recipe(
                broker=broker,
                owner=OWNER,
                queue="mail",
                concurrency=1,
                registry=Registered(),  # type: ignore[arg-type]
                observer=SilentObserver(),  # type: ignore[arg-type]
            )
        )

        assert await asyncio.wait_for(drain(worker, 10.0), 1)

    async def test_of_an_idle_one_ends_at_once(self, broker, actor):
        worker = actor(nothing)
        await soon(lambda: broker.claims)
        finished, took = await timed(drain(worker, 30.0))

        assert finished
        assert took < 1

    async def test_what_runs_may_end_and_what_waits_goes_back(self, broker, actor):
        gate, running = asyncio.Event(), []

        async def send(number):
            running.append(number)
            await gate.wait()

        push(broker, 6)
        worker = actor(send, concurrency=2)
        await soon(lambda: len(running) == 2)
        draining = asyncio.create_task(drain(worker, 30.0))
        await soon(lambda: broker.depth("mail").running == 2)
        push(broker, 1)
        await turns(50)
        assert not draining.done()
        gate.set()

        assert await draining
        assert broker.depth("mail") == Depth(waiting=5, delayed=0, running=0)
        assert running == [0, 1]
        [again] = await broker.claim(OWNER, "mail", 1)
        assert (again.envelope.args, again.envelope.attempt) == ([2], 1)

    async def test_a_coroutine_that_is_too_long_is_cancelled_and_goes_back(self, broker, actor):
        cancelled = []

        async def send(number):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(number)
                raise

        push(broker, 1)
        worker = actor(send)
        await soon(lambda: broker.depth("mail").running == 1)
        await turns()
        finished, took = await timed(drain(worker, LAST_WORDS + 0.1))

        assert not finished
        assert took < LAST_WORDS + 1
        assert cancelled == [0]
        assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)

    async def test_a_thread_that_is_too_long_is_left_behind_and_its_task_goes_back_once(self, broker, actor, caplog):
        gate, entered = threading.Event(), threading.Event()

        def send(number):
            entered.set()
            gate.wait(30)

        push(broker, 1)
        worker = actor(send)
        await soon(entered.is_set)
        finished, took = await timed(drain(worker, 0.1))
        assert not finished
        assert took < LAST_WORDS + 1
        assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)
        assert "1 tasks did not end in time and go back: demo.tasks.send" in caplog.text
        settled = len(broker.settled)
        gate.set()
        await turns(50)

        assert len(broker.settled) == settled
        [again] = await broker.claim(OWNER, "mail", 1)
        assert again.envelope.attempt == 1

    async def test_told_so_meanwhile_it_waits_no_longer(self, broker, actor):
        async def send(number):
            await asyncio.Event().wait()

        at_once = asyncio.Event()
        push(broker, 3)
        worker = actor(send)
        await soon(lambda: broker.depth("mail").running == 3)
        draining = asyncio.create_task(timed(drain(worker, 60.0, at_once)))
        await turns(50)
        assert not draining.done()
        at_once.set()
        finished, took = await draining

        assert not finished
        assert took < LAST_WORDS
        assert broker.depth("mail") == Depth(waiting=3, delayed=0, running=0)

    async def test_with_no_time_at_all_everything_goes_back_at_once(self, broker, actor):
        async def send(number):
            await asyncio.Event().wait()

        push(broker, 10)
        worker = actor(send)
        await soon(lambda: broker.depth("mail").running >= 4)
        finished, took = await timed(drain(worker, 0.0))

        assert not finished
        assert took < 1
        assert broker.depth("mail") == Depth(waiting=10, delayed=0, running=0)

    async def test_in_trouble_it_ends_in_time_and_says_what_could_not_be_settled(self, broker, actor, caplog):
        async def send(number):
            return None

        broker.trouble["settle"] = OSError("closed")
        push(broker, 3)
        worker = actor(send)
        await soon(lambda: broker.settled)
        _, took = await timed(drain(worker, 0.5))

        assert took < LAST_WORDS + 1
        assert "Queue mail: 3 outcomes could not be settled" in caplog.text
        assert broker.depth("mail").running == 3

    async def test_while_it_cannot_claim_it_ends_at_once(self, broker, actor):
        broker.trouble["claim"] = OSError("closed")
        worker = actor(nothing)
        await soon(lambda: len(broker.claims) >= 2)
        finished, took = await timed(drain(worker, 30.0))

        assert finished
        assert took < 1

    @pytest.mark.parametrize("turn", range(12))
    async def test_at_any_turn_of_the_loop_it_loses_nothing(self, broker, actor, turn):
        ran = []

        async def send(number):
            await asyncio.sleep(0)
            ran.append(number)

        push(broker, 40)
        worker = actor(send)
        await turns(turn)
        assert await drain(worker, 5.0)

        depth = broker.depth("mail")
        assert depth.running == 0
        assert len(ran) == len(set(ran))
        assert depth.waiting + len(ran) == 40

    async def test_told_to_hurry_while_it_settles_it_waits_a_moment_and_no_longer(self, broker, actor, caplog):
        async def send(number):
            return None

        at_once = asyncio.Event()
        broker.trouble["settle"] = OSError("closed")
        push(broker, 3)
        worker = actor(send)
        await soon(lambda: broker.settled)
        draining = asyncio.create_task(timed(drain(worker, 60.0, at_once)))
        await turns(50)
        assert not draining.done()
        at_once.set()
        finished, took = await draining

        assert finished  # all that ran has ended by itself
        assert took < LAST_WORDS
        assert "3 outcomes could not be settled" in caplog.text

    async def test_told_to_hurry_while_it_settles_it_still_settles_what_it_can(self, broker, actor, caplog):
        async def send(number):
            return None

        at_once = asyncio.Event()
        broker.trouble["settle"] = OSError("closed")
        push(broker, 3)
        worker = actor(send)
        await soon(lambda: broker.settled)
        draining = asyncio.create_task(drain(worker, 60.0, at_once))
        await turns(50)
        at_once.set()
        await turns(1)
        broker.trouble.clear()
        await draining

        assert broker.depth("mail") == Depth(0, 0, 0)
        assert "could not be settled" not in caplog.text


class TestPause:
    async def test_what_runs_goes_on_and_what_waits_goes_back(self, broker, actor):
        gate, running = asyncio.Event(), []

        async def send(number):
            running.append(number)
            await gate.wait()

        push(broker, 6)
        worker = actor(send, concurrency=2)
        await soon(lambda: len(running) == 2)
        await worker.pause()
        await soon(lambda: broker.depth("mail") == Depth(waiting=4, delayed=0, running=2))
        gate.set()
        await soon(lambda: broker.depth("mail").running == 0)
        await turns(100)

        assert running == [0, 1]
        assert broker.depth("mail") == Depth(waiting=4, delayed=0, running=0)

    async def test_resumed_it_takes_the_rest(self, broker, actor):
        seen = []

        async def send(number):
            seen.append(number)

        worker = actor(send)
        await worker.pause()
        push(broker, 6)
        await turns(100)
        assert seen == []
        worker.resume()

        await soon(lambda: broker.depth("mail") == Depth(0, 0, 0))
        assert sorted(seen) == list(range(6))

    async def test_twice_is_as_good_as_once(self, broker, actor):
        worker = actor(nothing)
        await worker.pause()
        await worker.pause()
        worker.resume()
        fetching = worker._fetching
        worker.resume()

        assert worker._fetching is fetching
        push(broker, 1)
        await soon(lambda: broker.depth("mail") == Depth(0, 0, 0))

    async def test_a_paused_worker_drains(self, broker, actor):
        gate, running = asyncio.Event(), []

        async def send(number):
            running.append(number)
            await gate.wait()

        push(broker, 3)
        worker = actor(send, concurrency=1)
        await soon(lambda: running)
        await worker.pause()
        draining = asyncio.create_task(drain(worker, 30.0))
        await turns(50)
        assert not draining.done()
        gate.set()

        assert await draining
        assert broker.depth("mail") == Depth(waiting=2, delayed=0, running=0)


class TestProgress:
    async def test_of_a_new_one_is_nothing(self, broker, actor):
        assert actor(nothing).progress == (0, 0, 0, 0.0, 0)

    async def test_it_counts_what_was_taken_runs_and_has_ended(self, broker, actor):
        gate, running = asyncio.Event(), []

        async def send(number):
            running.append(number)
            if number == 2:
                raise ValueError("failed tasks have ended too")
            await gate.wait()

        push(broker, 3)
        worker = actor(send, concurrency=3)
        await soon(lambda: len(running) == 3 and worker.progress.running == 2)
        assert worker.progress[:3] == (3, 1, 2)
        gate.set()

        await soon(lambda: worker.progress == (3, 3, 0, 0.0, 0))

    async def test_the_oldest_is_that_which_began_first(self, broker, actor):
        gates = {number: asyncio.Event() for number in range(2)}

        async def send(number):
            await gates[number].wait()

        push(broker, 1)
        worker = actor(send)
        await soon(lambda: worker.progress.oldest > 0.05)
        broker.push([a_task(1)])
        await soon(lambda: worker.progress.running == 2)
        both = worker.progress.oldest
        gates[0].set()
        await soon(lambda: worker.progress.running == 1)

        assert both > 0.05
        assert worker.progress.oldest < both
        gates[1].set()
        await soon(lambda: worker.progress.oldest == 0.0)


class Bug(Exception):
    pass


@pytest.mark.parametrize("duty", [Fetcher, Completer])
async def test_when_a_duty_ends_by_a_bug_it_is_told_to_whoever_asked(
    broker, actor, failures, caplog, monkeypatch, duty
):
    async def run(self):
        raise Bug(duty.__name__)

    monkeypatch.setattr(duty, "run", run)
    actor(nothing)
    await soon(lambda: failures)

    assert [str(error) for error in failures] == [duty.__name__]
    assert "Queue mail: the worker cannot go on" in caplog.text


async def test_what_runs_is_written_down_and_what_was_given_back_is_not(broker, actor):
    recorder = Recorder(4, ID_WIDTH)
    gate, running = asyncio.Event(), []

    async def send(number):
        running.append(number)
        with contextlib.suppress(asyncio.CancelledError):
            await gate.wait()
        await gate.wait()  # once cancelled, it still refuses to end

    push(broker, 3)
    worker = actor(send, concurrency=2, recorder=recorder)
    await soon(lambda: len(running) == 2)
    assert len(running_ids(recorder.notes())) == 2
    assert not await drain(worker, 0.0)

    assert running_ids(recorder.notes()) == frozenset()
    assert broker.depth("mail") == Depth(waiting=3, delayed=0, running=0)
    gate.set()
    await turns()
    recorder.close()


async def test_a_worker_for_suspects_takes_nothing_else(broker, actor):
    seen = []

    async def send(number):
        seen.append(number)

    push(broker, 2)
    victim = Owner(OWNER.node, "mail#2")
    await broker.claim(victim, "mail", 1)
    broker.reclaim(victim, Death("died"))
    worker = actor(send, suspects=True)
    await soon(lambda: seen and worker.idle_rounds >= 2)

    assert seen == [0]
    assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)
    assert worker.progress.taken == 1
