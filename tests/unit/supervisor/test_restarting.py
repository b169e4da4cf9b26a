"""What a supervisor does when a child ends, hangs, or goes on failing."""

import asyncio
import itertools

import pytest

from tests.unit.supervisor.trees import Tree, a_spec, a_tree, in_its_own_time
from vtasks_supervisor.errors import TreeFailed
from vtasks_supervisor.events import (
    Cause,
    ChildBeat,
    ChildDegraded,
    ChildExited,
    ChildHung,
    ChildReady,
    ChildRecovered,
    ChildSaid,
)
from vtasks_supervisor.policy import Escalation, Policy, Restart
from vtasks_supervisor.testing import FakeChild, Nursery


async def fail(tree, times, name="worker"):
    """Let so many children of a name fail, one after the other."""
    for nth in range(1, times + 1):
        (await tree.ready_child(name, nth)).exit(1)


class TestRestarting:
    @pytest.mark.parametrize("code", [0, 1, -9])
    @in_its_own_time
    async def test_a_permanent_child_is_always_started_again(self, code):
        async with a_tree(a_spec(restart=Restart.PERMANENT)) as tree:
            (await tree.ready_child()).exit(code)
            second = await tree.child(nth=2)

            assert second.incarnation == 2
            assert tree.state().restarts == 1

    @in_its_own_time
    async def test_a_transient_child_is_started_again_after_a_failure(self):
        async with a_tree(a_spec(restart=Restart.TRANSIENT)) as tree:
            (await tree.ready_child()).exit(1)
            (await tree.ready_child(nth=2)).exit(0)
            await tree.ends()

            assert len(tree.nursery.children) == 2

    @in_its_own_time
    async def test_a_temporary_child_is_never_started_again(self):
        async with a_tree(a_spec(restart=Restart.TEMPORARY)) as tree:
            (await tree.ready_child()).exit(1)
            await tree.ends()

            assert len(tree.nursery.children) == 1

    @in_its_own_time
    async def test_what_happens_to_one_child_is_nothing_to_the_others(self):
        async with a_tree(a_spec("a"), a_spec("b")) as tree:
            a, b = await tree.ready_child("a"), await tree.ready_child("b")
            a.exit(1)
            await tree.ready_child("a", 2)

            assert b.received == []
            assert len(tree.nursery.of("b")) == 1

    @in_its_own_time
    async def test_the_first_restart_is_immediate_and_later_ones_wait_longer_and_longer(self):
        async with a_tree(a_spec()) as tree:
            starts = []
            for nth in range(1, 6):
                child = await tree.child(nth=nth)
                starts.append(tree.clock())
                child.exit(1)

        pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
        assert pauses == pytest.approx([0, 0.075, 0.15, 0.3])  # with a chance of one half

    @in_its_own_time
    async def test_health_forgives_what_was_before(self):
        async with a_tree(a_spec(liveness_timeout=3600.0)) as tree:
            await fail(tree, 4)
            fifth = await tree.ready_child(nth=5)
            await asyncio.sleep(60.0)
            fifth.exit(1)
            failed_at = tree.clock()
            await tree.child(nth=6)

            assert tree.clock() == failed_at

    @in_its_own_time
    async def test_a_child_that_is_unsuited_is_started_in_another_way_at_once_and_has_not_failed(self):
        async with a_tree(a_spec(restart=Restart.TEMPORARY)) as tree:
            (await tree.child()).exit(0, cause=Cause.UNSUITED)
            await tree.ready_child(nth=2)

            assert tree.of(ChildExited)[0].exit.cause is Cause.UNSUITED
            assert not tree.state().degraded

    @in_its_own_time
    async def test_a_stop_ends_the_pause_before_the_next_start(self):
        async with a_tree(a_spec()) as tree:
            await fail(tree, 12)
            await asyncio.sleep(0.1)
            assert tree.state().state == "waiting"
            asked_at = tree.clock()
            tree.supervisor.stop()
            await tree.ends()

            assert tree.clock() == asked_at
            assert len(tree.nursery.children) == 12


class TestTellingWhatHappens:
    @in_its_own_time
    async def test_a_child_s_life_is_told_as_events(self):
        async with a_tree(a_spec()) as tree:
            child = await tree.child()
            await asyncio.sleep(0.25)
            child.become_ready()
            child.beat(lag=0.5, work=3)
            child.say("hello")
            child.exit(1, error="ValueError: no", notes=(b"note",))
            await tree.child(nth=2)

            ready, beat, said, exited = tree.heard[0], *tree.heard[2:5]  # heard[1] says that the tree is ready
            assert isinstance(ready, ChildReady)
            assert ready.seconds == pytest.approx(0.25)
            assert ready.pid == child.pid
            assert isinstance(beat, ChildBeat)
            assert (beat.vitals, beat.lag) == ({"work": 3}, 0.5)
            assert isinstance(said, ChildSaid)
            assert said.message == "hello"
            assert isinstance(exited, ChildExited)
            assert exited.exit.reason == "ValueError: no (exit code 1)"
            assert exited.exit.notes == (b"note",)
            assert {(event.name, event.incarnation) for event in (ready, beat, said, exited)} == {("worker", 1)}

    @in_its_own_time
    async def test_a_hook_that_raises_harms_nobody(self, caplog):
        def hook(event):
            raise ValueError("no")

        async with a_tree(a_spec(), hook=hook) as tree:
            (await tree.ready_child()).exit(1)
            await tree.ready_child(nth=2)

            assert tree.state().state == "ready"
        assert "The hook failed on ChildReady" in caplog.text

    @in_its_own_time
    async def test_the_states_say_how_each_place_is(self):
        async with a_tree(a_spec("a"), a_spec("b", liveness_timeout=3600.0)) as tree:
            b = await tree.ready_child("b")
            b.beat(work=7)
            await asyncio.sleep(10.0)

            a, state = tree.state("a"), tree.state("b")
            assert (a.state, a.incarnation, a.restarts) == ("starting", 1, 0)
            assert (state.state, state.pid, state.vitals) == ("ready", b.pid, {"work": 7})
            assert (state.up, state.silent) == (pytest.approx(10.0), pytest.approx(10.0))
            b.exit(-11)
            await tree.child("b", 2)
            assert tree.state("b").last_exit.status == "signal SIGSEGV"


class TestDegrading:
    @in_its_own_time
    async def test_a_place_that_fails_too_often_is_degraded_and_still_tried(self, caplog):
        async with a_tree(a_spec()) as tree:
            await fail(tree, 8)
            await tree.child(nth=9)

            (event,) = tree.of(ChildDegraded)
            assert (event.incarnation, event.failures) == (6, 6)
            assert tree.state().degraded
        assert caplog.text.count("worker is degraded: it failed 6 times") == 1

    @in_its_own_time
    async def test_health_makes_a_degraded_place_recover(self):
        async with a_tree(a_spec(liveness_timeout=3600.0)) as tree:
            await fail(tree, 6)
            await tree.ready_child(nth=7)
            ready_at = tree.clock()
            await tree.until(lambda: tree.of(ChildRecovered))

            assert 60.0 <= tree.clock() - ready_at <= 62.0
            assert tree.of(ChildRecovered)[0].incarnation == 7
            assert not tree.state().degraded

    @in_its_own_time
    async def test_a_place_that_goes_on_failing_at_long_intervals_never_recovers(self):
        async with a_tree(a_spec("lame"), a_spec("good", liveness_timeout=36000.0)) as tree:
            await tree.ready_child("good")
            await fail(tree, 30, "lame")

            assert len(tree.of(ChildDegraded)) == 1
            assert not tree.of(ChildRecovered)
            assert not tree.supervisor.is_stopping


class TestGivingUp:
    @in_its_own_time
    async def test_a_tree_in_which_nothing_ever_becomes_ready_fails_fast(self):
        tree = Tree(a_spec("a"), a_spec("b"), nursery=Nursery(prepare=lambda child: child.exit(1)))
        tree.run()
        with pytest.raises(TreeFailed, match="none of 2 children became ready in 3 attempts"):
            await tree.ends(within=5.0)

    @in_its_own_time
    async def test_a_tree_of_which_every_place_goes_on_failing_gives_up_in_the_end(self):
        def run_for_a_moment(child: FakeChild) -> None:
            child.ready_at_once = True
            asyncio.get_running_loop().call_later(1.0, child.exit, 1)

        tree = Tree(a_spec(), nursery=Nursery(prepare=run_for_a_moment))
        tree.run()
        with pytest.raises(TreeFailed, match="all 1 children kept failing for 300 s"):
            await tree.ends(within=400.0)

    @in_its_own_time
    async def test_the_other_children_are_drained_when_the_tree_gives_up(self):
        tree = Tree(a_spec("a"), a_spec("b"), policy=Policy(escalation=Escalation(patience=20.0)))
        tree.run()
        await fail(tree, 7, "a")
        await fail(tree, 7, "b")
        survivor = await tree.ready_child("b", 8)
        with pytest.raises(TreeFailed):
            await tree.ends()

        assert survivor.exited.result().cause is Cause.PLANNED

    @in_its_own_time
    async def test_a_child_that_cannot_be_started_at_all_ends_the_tree_with_its_error(self):
        def refuse(child: FakeChild) -> None:
            child.refusal = ZeroDivisionError("no")

        tree = Tree(a_spec(), nursery=Nursery(prepare=refuse))
        tree.run()
        with pytest.raises(ZeroDivisionError):
            await tree.ends(within=1.0)


class TestHanging:
    @in_its_own_time
    async def test_a_silent_child_writes_its_stacks_then_is_killed_and_started_again(self):
        async with a_tree(a_spec(liveness_timeout=30.0, dump_grace=2.0)) as tree:
            child = await tree.ready_child()
            ready_at = tree.clock()
            await tree.until(lambda: child.dumps)
            assert 30.0 < tree.clock() - ready_at < 32.5
            assert child.kills == 0
            dumped_at = tree.clock()
            await tree.child(nth=2)

            assert tree.clock() - dumped_at == pytest.approx(2.0, abs=0.02)
            assert child.kills == 1
            (hung,), (exited,) = tree.of(ChildHung), tree.of(ChildExited)
            assert hung.silent > 30.0
            assert exited.exit.cause is Cause.HUNG
            assert exited.exit.dump == "the stacks of a fake"
            assert exited.exit.reason == "hung (signal SIGKILL)"

    @in_its_own_time
    async def test_any_sign_of_life_will_do(self):
        async with a_tree(a_spec(liveness_timeout=30.0)) as tree:
            child = await tree.ready_child()
            for _ in range(4):
                await asyncio.sleep(25.0)
                child.beat()
                await asyncio.sleep(25.0)
                child.say("still here")

            assert child.dumps == 0

    @in_its_own_time
    async def test_a_child_that_does_not_become_ready_in_time_hangs_as_well(self):
        async with a_tree(a_spec(start_timeout=60.0, liveness_timeout=5.0)) as tree:
            child = await tree.child()
            await asyncio.sleep(59.0)
            assert child.dumps == 0
            await tree.child(nth=2)

            assert child.exited.result().code == -9

    @in_its_own_time
    async def test_a_supervisor_that_stood_still_does_not_hold_its_sleep_against_the_children(self):
        async with a_tree(a_spec(liveness_timeout=30.0)) as tree:
            child = await tree.ready_child()
            await asyncio.sleep(20.5)
            tree.clock.jump(7200.0)
            await asyncio.sleep(8.0)
            assert child.dumps == 0
            await asyncio.sleep(4.0)

            assert child.dumps == 1, "what was silence before still counts"

    @in_its_own_time
    async def test_a_child_that_beats_while_it_drains_may_take_longer_than_its_liveness_timeout(self):
        async with a_tree(a_spec(liveness_timeout=3.0, stop_timeout=60.0)) as tree:
            child = await tree.ready_child()
            child.obedient = False
            tree.supervisor.stop()
            for _ in range(20):
                await asyncio.sleep(2.0)
                child.beat()
            child.exit(0)
            await tree.ends()

            assert child.dumps == 0
            assert child.exited.result().cause is Cause.PLANNED
