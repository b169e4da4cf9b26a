"""Who holds the lock of a unique task, and until when."""

import asyncio
import random
import time

import pytest
from msgspec.structs import replace

from django_vtasks.brokers.base import Ack, Bury, Depth
from tests.contract.given import ALICE, BOB, ENDINGS, FAILURE, a_task, in_an_hour, key, mutex, throttle
from tests.contract.steps import SOON, crash, every_ending, ids, ids_of, take, take_one
from tests.contract.threads import aside, at_once


class Uniqueness:
    async def test_held_tells_which_keys_are_taken(self, broker, backdoor):
        await broker.apush([a_task(unique=mutex("a")), a_task(unique=throttle("b")), a_task(unique=throttle("c"))])
        claims = await take(broker)
        await broker.settle(ALICE, [Ack(claim) for claim in claims])
        await broker.apush([a_task(unique=mutex("d"))])
        await aside(backdoor.lapse_lock, key("c"))

        held = await aside(broker.held, {key(name) for name in "abcde"})

        assert held == {key("b"), key("d")}
        assert await aside(broker.held, set()) == set()

    async def test_an_equal_task_is_refused_while_the_first_waits(self, broker, second_broker):
        assert await broker.apush([a_task(unique=mutex())]) == [True]

        assert await broker.apush([a_task(unique=mutex())]) == [False]
        assert await second_broker.apush([a_task(unique=mutex())]) == [False]
        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=0, running=0)

    async def test_an_equal_task_is_refused_while_the_first_is_delayed(self, broker):
        await broker.apush([a_task(unique=mutex(), run_after=in_an_hour())])

        assert await broker.apush([a_task(unique=mutex())]) == [False]

    async def test_an_equal_task_is_refused_while_the_first_runs(self, broker):
        await broker.apush([a_task(unique=mutex())])
        await take_one(broker)

        assert await broker.apush([a_task(unique=mutex())]) == [False]

    async def test_an_equal_task_in_another_queue_is_refused(self, broker):
        await broker.apush([a_task(unique=mutex())])

        assert await broker.apush([a_task(queue="images", unique=mutex())]) == [False]

    async def test_different_keys_do_not_hinder_each_other(self, broker):
        assert await broker.apush([a_task(unique=mutex("a")), a_task(unique=mutex("b")), a_task()]) == [True] * 3

    async def test_of_equal_tasks_in_one_push_the_first_is_added(self, broker):
        sent = [a_task(unique=mutex()) for _ in range(3)]

        assert await broker.apush(sent) == [True, False, False]
        assert ids(await take(broker)) == [sent[0].id]

    async def test_a_duplicate_does_not_keep_the_rest_of_its_push_out(self, broker):
        await broker.apush([a_task(unique=mutex("b"))])
        sent = [a_task(unique=mutex("a")), a_task(unique=mutex("b")), a_task(), a_task(unique=mutex("c"))]

        assert await broker.apush(sent) == [True, False, True, True]
        assert ids(await take(broker))[1:] == ids_of([sent[0], sent[2], sent[3]])

    @pytest.mark.parametrize("name", ["ack", "bury"])
    async def test_the_end_of_a_task_frees_its_mutex(self, broker, name):
        await broker.apush([a_task(unique=mutex())])

        await broker.settle(ALICE, [ENDINGS[name](await take_one(broker))])

        assert await broker.apush([a_task(unique=mutex())]) == [True]

    @pytest.mark.parametrize("name", ["retry", "release"])
    async def test_a_task_that_goes_on_keeps_its_mutex(self, broker, name):
        await broker.apush([a_task(unique=mutex())])

        await broker.settle(ALICE, [ENDINGS[name](await take_one(broker))])

        assert await broker.apush([a_task(unique=mutex())]) == [False]

    async def test_a_mutex_moves_with_its_task_through_a_crash(self, broker):
        await broker.apush([a_task(unique=mutex())])
        await take_one(broker)

        await crash(broker)
        assert await broker.apush([a_task(unique=mutex())]) == [False]

        await broker.settle(BOB, [Ack(await take_one(broker, owner=BOB, suspects=True))])
        assert await broker.apush([a_task(unique=mutex())]) == [True]

    async def test_a_mutex_moves_with_its_task_when_the_node_leaves(self, broker):
        await broker.apush([a_task(unique=mutex())])
        await take_one(broker)

        await aside(broker.leave, ALICE.node)

        assert await broker.apush([a_task(unique=mutex())]) == [False]

    async def test_poison_frees_its_mutex(self, broker):
        await broker.apush([a_task(unique=mutex(), max_rescues=0)])
        await take_one(broker)

        await crash(broker)

        assert await broker.apush([a_task(unique=mutex())]) == [True]

    async def test_a_late_settlement_frees_no_mutex(self, broker):
        await broker.apush([a_task(unique=mutex())])
        late = await take_one(broker)
        await crash(broker)
        await take_one(broker, owner=BOB, suspects=True)

        assert await broker.settle(ALICE, [Ack(late)]) == [False]

        assert await broker.apush([a_task(unique=mutex())]) == [False]

    async def test_an_unreadable_task_that_is_buried_frees_its_mutex(self, broker, backdoor):
        sent = a_task(unique=mutex())
        await broker.apush([sent])
        await aside(backdoor.corrupt, sent.id, b"?")

        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        assert await broker.apush([a_task(unique=mutex())]) == [True]

    async def test_a_mutex_with_a_time_to_live_lapses(self, broker, backdoor):
        await broker.apush([a_task(unique=mutex(ttl=60.0))])
        assert await broker.apush([a_task(unique=mutex(ttl=60.0))]) == [False]

        await aside(backdoor.lapse_lock, key("report"))

        assert await broker.apush([a_task(unique=mutex())]) == [True]

    async def test_a_task_with_a_time_to_live_frees_its_mutex_when_it_ends_before(self, broker):
        await broker.apush([a_task(unique=mutex(ttl=60.0))])

        await broker.settle(ALICE, [Ack(await take_one(broker))])

        assert await broker.apush([a_task(unique=mutex())]) == [True]

    @pytest.mark.parametrize("name", ["ack", "bury"])
    async def test_a_task_whose_mutex_lapsed_does_not_free_its_successors(self, broker, backdoor, name):
        await broker.apush([a_task(unique=mutex(ttl=60.0))])
        first = await take_one(broker)
        await aside(backdoor.lapse_lock, key("report"))
        await broker.apush([a_task(unique=mutex())])

        await broker.settle(ALICE, [ENDINGS[name](first)])

        assert await broker.apush([a_task(unique=mutex())]) == [False]

    @every_ending
    async def test_a_throttle_outlives_whatever_becomes_of_its_task(self, broker, ending):
        await broker.apush([a_task(unique=throttle())])

        await broker.settle(ALICE, [ending(await take_one(broker))])

        assert await broker.apush([a_task(unique=throttle())]) == [False]

    async def test_a_throttle_outlives_poison(self, broker):
        await broker.apush([a_task(unique=throttle(), max_rescues=0)])
        await take_one(broker)

        await crash(broker)

        assert await broker.apush([a_task(unique=throttle())]) == [False]

    async def test_a_throttle_lapses_while_its_task_still_waits(self, broker, backdoor):
        await broker.apush([a_task(unique=throttle())])

        await aside(backdoor.lapse_lock, key("report"))

        assert await broker.apush([a_task(unique=throttle()), a_task(unique=throttle())]) == [True, False]
        assert await aside(broker.depth, "mail") == Depth(waiting=2, delayed=0, running=0)

    async def test_a_throttle_ends_by_itself_and_no_sooner(self, broker):
        begin = time.monotonic()
        await broker.apush([a_task(unique=throttle(ttl=0.3))])

        async with asyncio.timeout(SOON):
            while await broker.apush([a_task(unique=throttle(ttl=0.3))]) == [False]:
                await asyncio.wait_for(broker.claim(ALICE, "mail", 1, wait=0.02), SOON)

        assert time.monotonic() - begin >= 0.3

    @pytest.mark.parametrize("lock", [mutex(), throttle()], ids=["mutex", "throttle"])
    async def test_clear_frees_the_locks_of_what_it_deletes(self, broker, lock):
        delayed = a_task(unique=replace(lock, key=key("delayed")), run_after=in_an_hour())
        await broker.apush([a_task(unique=lock), delayed])

        await aside(broker.clear, "mail")

        assert await broker.apush([a_task(unique=lock), a_task(unique=delayed.unique)]) == [True, True]

    async def test_clear_leaves_the_lock_of_a_running_task(self, broker):
        await broker.apush([a_task(unique=mutex())])
        await take_one(broker)

        await aside(broker.clear, "mail")

        assert await broker.apush([a_task(unique=mutex())]) == [False]

    @pytest.mark.parametrize("lock", [mutex(), throttle()], ids=["mutex", "throttle"])
    def test_of_fifty_equal_pushes_at_once_one_is_accepted(self, broker, backdoor, lock):
        def push(number):
            return (broker if number % 2 else backdoor.open()).push([a_task(unique=lock)])

        results = at_once(push, 50)

        assert sorted(results) == [[False]] * 49 + [[True]]
        assert broker.depth("mail") == Depth(waiting=1, delayed=0, running=0)

    async def test_of_fifty_equal_pushes_on_one_loop_one_is_accepted(self, broker, second_broker):
        pushes = [(broker, second_broker)[number % 2].apush([a_task(unique=mutex())]) for number in range(50)]

        results = await asyncio.gather(*pushes)

        assert sorted(results) == [[False]] * 49 + [[True]]

    def test_of_many_keys_pushed_at_once_in_any_order_each_is_accepted_once(self, broker, backdoor):
        names = [f"report {number}" for number in range(30)]

        def push(seed):
            mixed = random.Random(seed).sample(names, len(names))
            accepted = backdoor.open().push([a_task(unique=mutex(name)) for name in mixed])
            return [name for name, is_accepted in zip(mixed, accepted, strict=True) if is_accepted]

        assert sorted(sum(at_once(push, 8), [])) == sorted(names)
