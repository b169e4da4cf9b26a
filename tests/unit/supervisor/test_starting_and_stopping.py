"""In which order a tree starts and stops, and what ends it."""

import asyncio

import pytest

from tests.unit.supervisor.trees import CLOCK, Tree, a_spec, a_tree, in_its_own_time
from vtasks_supervisor.errors import SpecError
from vtasks_supervisor.events import Cause, ChildExited, TreeReady, TreeStopping
from vtasks_supervisor.frames import Pause, Resume, Stop, Tell
from vtasks_supervisor.policy import Restart
from vtasks_supervisor.slot import KILL_GRACE
from vtasks_supervisor.supervisor import Supervisor
from vtasks_supervisor.testing import FakeChild, Nursery


def stubborn(child: FakeChild) -> None:
    child.obedient = False


class TestStarting:
    @in_its_own_time
    async def test_children_start_by_stage_each_when_the_one_before_is_ready(self):
        async with a_tree(a_spec("late", stage=2), a_spec("first", stage=0), a_spec("second", stage=0)) as tree:
            for name in ("first", "second", "late"):
                child = await tree.child(name)
                await asyncio.sleep(0.5)
                assert tree.nursery.children[-1] is child, "the next one waits"
                child.become_ready()

            assert [child.spec.name for child in tree.nursery.children] == ["first", "second", "late"]

    @in_its_own_time
    async def test_a_slow_starter_holds_the_next_one_up_for_its_patience_only(self):
        async with a_tree(a_spec("slow"), a_spec("next")) as tree:
            await tree.child("slow")
            began_at = tree.clock()
            await tree.child("next")

            assert tree.clock() - began_at == pytest.approx(1.0)
            assert tree.state("slow").state == "starting"

    @in_its_own_time
    async def test_a_failed_starter_does_not_hold_the_next_one_up(self):
        async with a_tree(a_spec("bad"), a_spec("next")) as tree:
            bad = await tree.child("bad")
            began_at = tree.clock()
            bad.exit(1)
            await tree.child("next")

            assert tree.clock() == began_at

    @in_its_own_time
    async def test_the_tree_is_ready_when_every_place_was(self):
        async with a_tree(a_spec("a"), a_spec("b")) as tree:
            (await tree.ready_child("a")).exit(1)
            assert not tree.of(TreeReady)
            await tree.ready_child("b")
            await tree.ready_child("a", 2)

            assert len(tree.of(TreeReady)) == 1

    @in_its_own_time
    async def test_a_child_that_ended_for_good_does_not_keep_the_tree_from_being_ready(self):
        async with a_tree(a_spec("once", restart=Restart.TEMPORARY), a_spec("worker")) as tree:
            once = await tree.child("once")
            await tree.ready_child("worker")
            assert not tree.of(TreeReady)
            once.exit(1)
            await asyncio.sleep(0.1)

            assert tree.of(TreeReady)

    def test_two_children_of_one_name_are_refused(self):
        with pytest.raises(SpecError, match="two children of the name 'worker'"):
            Supervisor([a_spec(), a_spec()])


class TestStopping:
    @in_its_own_time
    async def test_stages_stop_in_reverse_each_when_the_one_after_it_is_gone(self):
        nursery = Nursery(ready_at_once=True, prepare=stubborn)
        specs = [a_spec(f"{stage}{nth}", stage=stage) for stage in (1, 2) for nth in "ab"]
        async with a_tree(*specs, nursery=nursery) as tree:
            await tree.child("2b")
            await asyncio.sleep(0.1)
            tree.supervisor.stop()
            children = {child.spec.name: child for child in nursery.children}
            await tree.until(lambda: children["2a"].has(Stop) and children["2b"].has(Stop), within=1.0)
            children["2a"].exit(0)
            await asyncio.sleep(5.0)
            assert not children["1a"].has(Stop)
            children["2b"].exit(0)
            await tree.until(lambda: children["1a"].has(Stop) and children["1b"].has(Stop), within=0.1)

            assert tree.heard[-3] == TreeStopping()

    @in_its_own_time
    async def test_all_stages_together_have_the_time_of_the_slowest_and_the_last_one_a_second_at_least(self):
        nursery = Nursery(ready_at_once=True, prepare=stubborn)
        async with a_tree(
            a_spec("1", stage=1, stop_timeout=10.0), a_spec("2", stage=2, stop_timeout=20.0), nursery=nursery
        ) as tree:
            await tree.child("1")
            second = await tree.child("2")
            asked_at = tree.clock()
            tree.supervisor.stop()
            await tree.until(second.exited.done)
            first = await tree.child("1")
            await tree.ends()

            assert second.received[-1] == Stop(20.0)
            assert first.received[-1] == Stop(1.0)
            assert tree.clock() - asked_at == pytest.approx(20.0 + KILL_GRACE + 1.0 + KILL_GRACE, abs=0.1)

    @in_its_own_time
    async def test_a_child_that_does_not_stop_in_time_is_killed(self, caplog):
        async with a_tree(a_spec(stop_timeout=25.0)) as tree:
            child = await tree.ready_child()
            child.obedient = False
            tree.supervisor.stop()
            for _ in range(25):
                await asyncio.sleep(1.0)
                child.beat()
            assert child.kills == 0
            await tree.ends(within=2.0)

            assert child.kills == 1
            exit_ = tree.of(ChildExited)[0].exit
            assert (exit_.code, exit_.cause, exit_.reason) == (
                -9,
                Cause.STUBBORN,
                "did not stop in time (signal SIGKILL)",
            )
        assert "worker did not stop when it was told to and is killed" in caplog.text

    @in_its_own_time
    async def test_a_child_that_even_a_kill_does_not_end_is_left_behind(self):
        tree = Tree(a_spec(stop_timeout=5.0), nursery=Nursery(ready_at_once=True, prepare=stubborn))
        tree.run()
        child = await tree.child()
        vars(child)["kill"] = lambda: None
        tree.supervisor.stop()
        await tree.ends(within=5.0 + KILL_GRACE + 5.0 + 0.1)

        assert not child.exited.done()

    @in_its_own_time
    async def test_a_stop_before_the_start_starts_nothing(self):
        tree = Tree(a_spec())
        tree.supervisor.stop()
        tree.run()
        await tree.ends(within=1.0)

        assert tree.nursery.children == []

    @in_its_own_time
    async def test_a_stop_while_children_start_starts_no_more_and_stops_those_that_do(self):
        async with a_tree(a_spec("a"), a_spec("b")) as tree:
            a = await tree.child("a")
            tree.supervisor.stop()
            await tree.ends(within=1.0)

            assert a.has(Stop)
            assert tree.nursery.children == [a]

    @in_its_own_time
    async def test_a_child_whose_start_is_not_over_is_told_to_stop_when_it_is(self):
        class Slow(FakeChild):
            async def start(self):
                await asyncio.sleep(3.0)
                self.received.clear()  # as one that has no pipe yet
                await super().start()

            def send(self, frame):
                return self.started.is_set() and super().send(frame)

        born = []

        def make_child(spec, incarnation, listen):
            born.append(Slow(spec, incarnation, listen))
            return born[-1]

        supervisor = Supervisor([a_spec()], make_child=make_child, clock=CLOCK.get())
        running = asyncio.create_task(supervisor.run())
        await asyncio.sleep(1.0)
        supervisor.stop()
        async with asyncio.timeout(5.0):
            await running

        assert born[0].exited.result().cause is Cause.PLANNED

    @in_its_own_time
    async def test_a_second_stop_changes_nothing(self):
        async with a_tree(a_spec(stop_timeout=10.0)) as tree:
            child = await tree.ready_child()
            child.obedient = False
            tree.supervisor.stop()
            await asyncio.sleep(5.0)
            tree.supervisor.stop()
            await asyncio.sleep(5.0)

            assert child.received == [Stop(10.0)]
            assert child.kills == 0

    @in_its_own_time
    async def test_a_stop_at_once_reaches_all_stages_and_kills_soon(self):
        nursery = Nursery(ready_at_once=True, prepare=stubborn)
        async with a_tree(a_spec("1", stage=1), a_spec("2", stage=2), nursery=nursery) as tree:
            first, second = await tree.child("1"), await tree.child("2")
            asked_at = tree.clock()
            tree.supervisor.stop(at_once=True)
            assert first.received[-1] == second.received[-1] == Stop(0.0, at_once=True)
            await tree.ends()

            assert (first.kills, second.kills) == (1, 1)
            assert tree.clock() - asked_at == pytest.approx(2 * KILL_GRACE, abs=0.1)

    @in_its_own_time
    async def test_a_stop_at_once_hurries_the_one_that_is_under_way(self):
        async with a_tree(a_spec(stop_timeout=25.0)) as tree:
            child = await tree.ready_child()
            child.obedient = False
            tree.supervisor.stop()
            await asyncio.sleep(5.0)
            asked_at = tree.clock()
            tree.supervisor.stop(at_once=True)
            await tree.ends()

            assert child.received == [Stop(25.0), Stop(0.0, at_once=True)]
            assert child.kills == 1
            assert tree.clock() - asked_at == pytest.approx(KILL_GRACE, abs=0.1)

    @in_its_own_time
    async def test_a_cancelled_tree_is_drained(self):
        tree = Tree(a_spec())
        running = tree.run()
        child = await tree.ready_child()
        running.cancel()
        await asyncio.wait({running})

        assert child.exited.result().cause is Cause.PLANNED


class TestEnding:
    @in_its_own_time
    async def test_a_tree_ends_when_nothing_in_it_wants_to_run(self):
        async with a_tree(*(a_spec(name, restart=Restart.TRANSIENT) for name in "ab")) as tree:
            (await tree.ready_child("a")).exit(0)
            (await tree.ready_child("b")).exit(0)

            await tree.ends(within=1.0)

    @in_its_own_time
    async def test_a_child_that_ends_before_the_others_were_started_does_not_end_the_tree(self):
        once = a_spec("once", restart=Restart.TEMPORARY, significant=True)
        async with a_tree(once, a_spec("work", restart=Restart.TRANSIENT, significant=True)) as tree:
            (await tree.child("once")).exit(0)
            await tree.ready_child("work")
            await asyncio.sleep(10.0)

            assert not tree.supervisor.is_stopping

    @in_its_own_time
    async def test_the_last_significant_child_ends_the_tree(self):
        burst = {"restart": Restart.TRANSIENT, "significant": True}
        async with a_tree(a_spec("a", **burst), a_spec("b", **burst), a_spec("server")) as tree:
            a, b, server = [await tree.ready_child(name) for name in ("a", "b", "server")]
            a.exit(0)
            await asyncio.sleep(10.0)
            assert not server.has(Stop)
            b.exit(0)
            await tree.ends(within=1.0)

            assert server.has(Stop)

    @in_its_own_time
    async def test_a_significant_child_that_fails_is_started_again_and_keeps_the_tree(self):
        async with a_tree(a_spec("a", restart=Restart.TRANSIENT, significant=True), a_spec("server")) as tree:
            (await tree.ready_child("a")).exit(1)
            await tree.ready_child("a", 2)

            assert not tree.supervisor.is_stopping


class TestAdding:
    @in_its_own_time
    async def test_a_child_can_be_added_and_its_name_be_used_again_when_it_has_ended(self):
        once = a_spec("once", restart=Restart.TEMPORARY)
        async with a_tree(a_spec()) as tree:
            await tree.ready_child()
            assert tree.supervisor.add(once)
            assert not tree.supervisor.add(once)
            (await tree.ready_child("once")).exit(0)
            await tree.until(lambda: tree.supervisor.add(once), within=1.0)
            second = await tree.ready_child("once", 2)

            # Whoever comes late to the books of the first must not find those of the second.
            assert second.incarnation == 2
            [state] = [state for state in tree.supervisor.states if state.name == "once"]
            assert (state.incarnation, state.restarts) == (2, 0)

    @in_its_own_time
    async def test_a_child_added_before_the_tree_runs_starts_with_the_others(self):
        tree = Tree(a_spec("a"), nursery=Nursery(ready_at_once=True))
        assert tree.supervisor.add(a_spec("b"))
        tree.run()
        await tree.child("b")
        await asyncio.sleep(0.1)
        tree.supervisor.stop()
        await tree.ends()

        assert [child.spec.name for child in tree.nursery.children] == ["a", "b"]

    @in_its_own_time
    async def test_a_stopping_tree_takes_no_more_children(self):
        async with a_tree(a_spec()) as tree:
            await tree.ready_child()
            tree.supervisor.stop()

            assert not tree.supervisor.add(a_spec("once"))


class TestTelling:
    @in_its_own_time
    async def test_a_message_reaches_the_child_of_the_name(self):
        async with a_tree(a_spec("a"), a_spec("b")) as tree:
            a, b = await tree.ready_child("a"), await tree.ready_child("b")

            assert tree.supervisor.tell("b", "hello")
            assert b.received == [Tell("hello")]
            assert a.received == []

    @in_its_own_time
    async def test_whether_nobody_is_there_to_take_a_message_is_said(self):
        async with a_tree(a_spec()) as tree:
            (await tree.ready_child()).exit(1)

            assert not tree.supervisor.tell("worker", "hello")
            assert not tree.supervisor.tell("nobody", "hello")


class TestPausing:
    @in_its_own_time
    async def test_all_children_are_told(self):
        async with a_tree(a_spec("a"), a_spec("b")) as tree:
            children = [await tree.ready_child("a"), await tree.ready_child("b")]
            tree.supervisor.pause()
            tree.supervisor.resume()

            assert [child.received for child in children] == [[Pause(), Resume()]] * 2

    @in_its_own_time
    async def test_a_child_that_starts_meanwhile_is_told_once_when_it_is_ready(self):
        async with a_tree(a_spec()) as tree:
            child = await tree.child()
            tree.supervisor.pause()
            assert child.received == []
            child.become_ready()
            assert child.received == [Pause()]
            child.exit(1)
            second = await tree.ready_child(nth=2)
            assert second.received == [Pause()]
            tree.supervisor.add(a_spec("added"))
            added = await tree.ready_child("added")
            tree.supervisor.resume()

            assert second.received == added.received == [Pause(), Resume()]

    @in_its_own_time
    async def test_a_child_that_becomes_ready_after_the_resume_is_told_nothing(self):
        async with a_tree(a_spec()) as tree:
            child = await tree.child()
            tree.supervisor.pause()
            tree.supervisor.resume()
            child.become_ready()

            assert child.received == []


class TestDumping:
    @in_its_own_time
    async def test_the_stacks_of_all_children_are_logged(self, caplog):
        async with a_tree(a_spec("a"), a_spec("b")) as tree:
            await tree.ready_child("a")
            await tree.ready_child("b")
            tree.supervisor.dump()
            await asyncio.sleep(3.0)

        assert "Stacks of a:\nthe stacks of a fake" in caplog.text
        assert "Stacks of b:\nthe stacks of a fake" in caplog.text
