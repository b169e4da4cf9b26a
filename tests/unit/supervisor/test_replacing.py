"""How a child that works is replaced by another without a gap."""

import asyncio
from typing import Any

import pytest

from tests.unit.supervisor.trees import a_spec, a_tree, in_its_own_time
from vtasks_supervisor.errors import SpecError
from vtasks_supervisor.events import ChildExited
from vtasks_supervisor.frames import Pause, Stop
from vtasks_supervisor.policy import Restart

PATIENT: dict[str, Any] = {"liveness_timeout": 1e9, "start_timeout": 1e9}
MEGABYTE = 1_000_000


class TestReasons:
    @in_its_own_time
    async def test_a_child_that_asks_to_retire_is_replaced(self, caplog):
        caplog.set_level("INFO")
        async with a_tree(a_spec()) as tree:
            (await tree.ready_child()).retire("its code is old")
            await tree.child(nth=2)

        assert "worker is replaced: its code is old" in caplog.text

    @in_its_own_time
    async def test_a_child_that_has_done_its_work_is_replaced(self):
        async with a_tree(a_spec(max_work=100, **PATIENT)) as tree:
            child = await tree.ready_child()
            child.beat(work=99)
            await asyncio.sleep(5.0)
            assert len(tree.nursery.children) == 1
            child.beat(work=100)

            await tree.child(nth=2)

    @in_its_own_time
    async def test_a_child_that_has_lived_long_enough_is_replaced(self):
        async with a_tree(a_spec(max_lifetime=3600.0, **PATIENT)) as tree:
            born_at = tree.clock()
            await tree.ready_child()
            async with asyncio.timeout(4000.0):
                await tree.nursery.child("worker", 2)

            assert tree.clock() - born_at == pytest.approx(3600.0, abs=2.0)

    @in_its_own_time
    async def test_a_child_that_twice_in_a_row_held_too_much_memory_is_replaced(self):
        async with a_tree(a_spec(max_memory=100 * MEGABYTE, **PATIENT)) as tree:
            child = await tree.ready_child()
            for megabytes in (101, 99, 101):
                child.uss = megabytes * MEGABYTE
                await asyncio.sleep(15.5)
            assert len(tree.nursery.children) == 1

            await tree.child(nth=2)

    @in_its_own_time
    async def test_a_child_whose_memory_nobody_knows_is_left_alone(self):
        async with a_tree(a_spec(max_memory=1, **PATIENT)) as tree:
            await tree.ready_child()
            await asyncio.sleep(100.0)

            assert len(tree.nursery.children) == 1

    @in_its_own_time
    async def test_children_are_replaced_on_demand_one_after_the_other(self):
        async with a_tree(a_spec("a"), a_spec("b")) as tree:
            old = [await tree.ready_child("a"), await tree.ready_child("b")]
            tree.supervisor.replace_all("told to")
            new_a = await tree.child("a", 2)
            await asyncio.sleep(1.0)
            assert len(tree.nursery.of("b")) == 1
            new_a.become_ready()
            await tree.ready_child("b", 2)
            await tree.until(lambda: all(child.exited.done() for child in old), within=1.0)

    @in_its_own_time
    async def test_a_child_that_is_told_to_while_it_starts_is_replaced_when_it_is_ready(self):
        async with a_tree(a_spec("a", **PATIENT), a_spec("b", **PATIENT)) as tree:
            old, other = await tree.child("a"), await tree.child("b")
            tree.supervisor.replace_all("told to")
            await asyncio.sleep(1.0)
            assert len(tree.nursery.of("a")) == 1
            old.become_ready()
            await tree.ready_child("a", 2)
            await tree.until(old.exited.done, within=1.0)
            other.become_ready()
            await tree.child("b", 2)

    @in_its_own_time
    async def test_a_child_that_is_made_after_it_is_told_to_is_not_replaced(self):
        async with a_tree(a_spec("a", **PATIENT), a_spec("b", **PATIENT)) as tree:
            first = await tree.child("a")
            tree.supervisor.replace_all("told to")
            await tree.ready_child("b")
            first.become_ready()
            await tree.ready_child("a", 2)
            await asyncio.sleep(1.0)

            assert len(tree.nursery.of("b")) == 1

    @in_its_own_time
    async def test_a_child_that_works_does_not_wait_to_be_replaced_for_one_that_starts(self):
        async with a_tree(a_spec("a", **PATIENT), a_spec("b", **PATIENT)) as tree:
            await tree.child("a")
            await tree.ready_child("b")
            tree.supervisor.replace_all("told to")
            async with asyncio.timeout(1.0):
                await tree.nursery.child("b", 2)

    @in_its_own_time
    async def test_one_that_has_begun_to_start_as_a_successor_before_it_is_told_to_is_replaced_too(self):
        async with a_tree(a_spec(**PATIENT)) as tree:
            await tree.ready_child()
            tree.supervisor.replace("worker", "worn out")
            successor = await tree.child(nth=2)
            tree.supervisor.replace_all("told to")
            await asyncio.sleep(1.0)
            assert len(tree.nursery.children) == 2
            successor.become_ready()
            await tree.ready_child(nth=3)
            await tree.until(successor.exited.done, within=1.0)

            assert tree.state().incarnation == 3

    @in_its_own_time
    async def test_a_child_that_never_comes_to_be_and_never_ends_does_not_keep_others_from_being_replaced(
        self, monkeypatch
    ):
        async with a_tree(a_spec("a", start_timeout=10.0), a_spec("b", max_work=1, **PATIENT)) as tree:
            stuck = await tree.child("a")
            monkeypatch.setattr(stuck, "kill", lambda: None)  # in a call of the kernel that no signal interrupts
            await tree.ready_child("b")
            tree.supervisor.replace_all("told to")
            worker = await tree.ready_child("b", 2)
            worker.beat(work=1)
            async with asyncio.timeout(30.0):
                await tree.nursery.child("b", 3)

    @in_its_own_time
    async def test_only_one_child_at_a_time_is_worn_out(self):
        async with a_tree(a_spec("a"), a_spec("b")) as tree:
            for name in ("a", "b"):
                (await tree.ready_child(name)).retire("tired")
            new_a = await tree.child("a", 2)
            await asyncio.sleep(5.0)
            assert len(tree.nursery.of("b")) == 1
            new_a.become_ready()

            await tree.child("b", 2)


class TestHandover:
    @in_its_own_time
    async def test_the_old_child_works_until_the_new_one_is_ready_and_has_not_failed(self):
        async with a_tree(a_spec(**PATIENT)) as tree:
            old = await tree.ready_child()
            tree.supervisor.replace("worker", "told to")
            new = await tree.child(nth=2)
            await asyncio.sleep(10.0)
            assert not old.has(Stop)
            assert tree.state().pid == old.pid
            new.become_ready()
            await tree.until(old.exited.done, within=1.0)

            assert old.received == [Stop(25.0)]
            assert tree.state().pid == new.pid
            assert not tree.state().degraded
            assert tree.supervisor.tell("worker", "hello")
            assert new.received
            assert len(tree.nursery.children) == 2

    @in_its_own_time
    async def test_a_successor_is_paused_when_the_tree_is(self):
        async with a_tree(a_spec()) as tree:
            await tree.ready_child()
            tree.supervisor.replace("worker", "told to")
            new = await tree.child(nth=2)
            tree.supervisor.pause()
            new.become_ready()
            await asyncio.sleep(1.0)

            assert new.received == [Pause()]

    @in_its_own_time
    async def test_a_successor_that_fails_leaves_the_old_child_in_place_and_is_tried_again_later(self):
        async with a_tree(a_spec(max_work=1, **PATIENT)) as tree:
            old = await tree.ready_child()
            old.beat(work=1)
            (await tree.child(nth=2)).exit(1)
            failed_at = tree.clock()
            await asyncio.sleep(10.0)
            assert not old.has(Stop)
            assert tree.state().pid == old.pid
            await tree.child(nth=3)

            assert tree.clock() - failed_at == pytest.approx(30.0, abs=2.0)

    @in_its_own_time
    async def test_a_successor_that_fails_takes_nothing_of_the_old_child_s_health(self):
        async with a_tree(a_spec(**PATIENT)) as tree:
            old = await tree.ready_child()
            await asyncio.sleep(100.0)
            tree.supervisor.replace("worker", "told to")
            (await tree.child(nth=2)).exit(1)
            await asyncio.sleep(1.0)
            old.exit(1)
            failed_at = tree.clock()
            await tree.child(nth=3)

            assert tree.clock() == failed_at, "the first failure after so much health"

    @in_its_own_time
    async def test_a_successor_that_cannot_be_started_leaves_the_old_child_in_place(self, caplog):
        async with a_tree(a_spec()) as tree:
            old = await tree.ready_child()
            tree.nursery.prepare = lambda child: setattr(child, "refusal", SpecError("no"))
            tree.supervisor.replace("worker", "told to")
            await asyncio.sleep(1.0)

            assert len(tree.nursery.children) == 2
            assert not old.has(Stop)
            assert not tree.supervisor.is_stopping
        assert "The successor of worker cannot be started" in caplog.text

    @in_its_own_time
    async def test_a_successor_takes_over_when_the_old_child_dies_meanwhile(self):
        async with a_tree(a_spec()) as tree:
            old = await tree.ready_child()
            tree.supervisor.replace("worker", "told to")
            new = await tree.child(nth=2)
            old.exit(1)
            await asyncio.sleep(1.0)
            new.become_ready()
            await asyncio.sleep(10.0)

            assert len(tree.nursery.children) == 2
            assert (tree.state().pid, tree.state().state) == (new.pid, "ready")
            new.exit(1)
            await tree.child(nth=3)

    @in_its_own_time
    async def test_a_successor_whose_start_takes_time_takes_over_as_well(self):
        async with a_tree(a_spec()) as tree:
            old = await tree.ready_child()
            go = asyncio.Event()
            tree.nursery.prepare = lambda child: setattr(child, "start", go.wait)
            tree.supervisor.replace("worker", "told to")
            await tree.until(lambda: len(tree.nursery.children) == 2, within=1.0)
            old.exit(1)
            await asyncio.sleep(1.0)
            go.set()
            tree.nursery.children[1].become_ready()
            await asyncio.sleep(10.0)

            assert len(tree.nursery.children) == 2
            assert tree.state().pid == tree.nursery.children[1].pid

    @in_its_own_time
    async def test_when_both_die_at_once_another_is_started(self):
        async with a_tree(a_spec()) as tree:
            old = await tree.ready_child()
            tree.supervisor.replace("worker", "told to")
            new = await tree.child(nth=2)
            new.exit(1)
            old.exit(1)

            await tree.child(nth=3)

    @in_its_own_time
    async def test_a_successor_that_is_ready_and_dies_at_once_is_followed_by_another(self):
        async with a_tree(a_spec()) as tree:
            old = await tree.ready_child()
            tree.supervisor.replace("worker", "told to")
            new = await tree.child(nth=2)
            new.become_ready()
            new.exit(1)
            await asyncio.sleep(0.0)
            old.exit(1)

            await tree.child(nth=3)

    @in_its_own_time
    async def test_a_new_child_that_dies_is_followed_by_another_while_the_old_one_still_drains(self):
        async with a_tree(a_spec(stop_timeout=1000.0, **PATIENT)) as tree:
            old = await tree.ready_child()
            old.obedient = False
            tree.supervisor.replace("worker", "told to")
            new = await tree.ready_child(nth=2)
            await tree.until(lambda: old.has(Stop), within=1.0)
            new.exit(1)
            await tree.ready_child(nth=3)

            assert not old.exited.done()

    @in_its_own_time
    async def test_an_old_child_that_does_not_leave_is_killed(self):
        async with a_tree(a_spec(stop_timeout=25.0, **PATIENT)) as tree:
            old = await tree.ready_child()
            old.obedient = False
            tree.supervisor.replace("worker", "told to")
            new = await tree.ready_child(nth=2)
            await asyncio.sleep(26.0)
            assert old.kills == 0
            await asyncio.sleep(2.0)

            assert old.kills == 1
            assert (tree.state().pid, tree.state().state) == (new.pid, "ready")

    @in_its_own_time
    async def test_a_child_that_waits_for_its_next_start_is_not_replaced(self):
        async with a_tree(a_spec()) as tree:
            for nth in range(1, 13):
                (await tree.ready_child(nth=nth)).exit(1)
            await asyncio.sleep(0.1)
            tree.supervisor.replace("worker", "told to")
            await asyncio.sleep(1.0)

            assert len(tree.nursery.children) == 12

    @in_its_own_time
    async def test_a_child_that_is_being_replaced_is_not_replaced_twice(self):
        async with a_tree(a_spec()) as tree:
            await tree.ready_child()
            tree.supervisor.replace("worker", "told to")
            tree.supervisor.replace("worker", "told to again")
            await tree.ready_child(nth=2)
            await asyncio.sleep(1.0)

            assert len(tree.nursery.children) == 2

    @in_its_own_time
    async def test_a_stop_meanwhile_stops_both(self):
        async with a_tree(a_spec()) as tree:
            old = await tree.ready_child()
            tree.supervisor.replace("worker", "told to")
            new = await tree.child(nth=2)
            tree.supervisor.stop()
            await tree.ends(within=1.0)

            assert old.has(Stop)
            assert new.has(Stop)
            assert len(tree.of(ChildExited)) == 2

    @in_its_own_time
    async def test_a_transient_child_that_ends_while_its_successor_starts_leaves_the_work_to_it(self):
        async with a_tree(a_spec(restart=Restart.TRANSIENT)) as tree:
            old = await tree.ready_child()
            tree.supervisor.replace("worker", "told to")
            new = await tree.child(nth=2)
            old.exit(0)
            await asyncio.sleep(1.0)
            assert not tree.supervisor.is_stopping
            new.become_ready()
            new.exit(0)

            await tree.ends(within=1.0)
