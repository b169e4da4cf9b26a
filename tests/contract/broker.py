"""What every store of tasks promises; each store inherits BrokerContract and supplies its backdoor."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace as replaced
from itertools import batched

import pytest
from django_vtasks import wire
from django_vtasks.brokers.base import (
    Ack,
    Bury,
    Claim,
    Depth,
    Owner,
    Reclaimed,
    Release,
    Retry,
    TaskFailure,
)
from django_vtasks.envelope import Envelope
from django_vtasks.errors import LeaseLost, PayloadTooLarge
from msgspec.structs import replace

from tests.contract.backdoor import Store
from tests.contract.given import (
    A_LEASE,
    ALICE,
    BOB,
    ENDINGS,
    FAILURE,
    a_task,
    in_an_hour,
    key,
    mutex,
    tasks,
    throttle,
)
from tests.contract.threads import aside, at_once
from tests.contract.unreadable import UNREADABLE

SOON = 20.0
"""Seconds within which all that needs no waiting has happened, on a busy machine too."""
AT_ONCE = 3.0
"""Seconds within which an idle claim wakes; fewer than those between the looks of any fallback."""

every_ending = pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
every_unreadable_payload = pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE)


async def take(broker: Store, limit: int = 1000, *, owner: Owner = ALICE, queue: str = "mail") -> list[Claim]:
    return await broker.claim(owner, queue, limit)


async def take_one(broker: Store, *, owner: Owner = ALICE) -> Claim:
    [claim] = await take(broker, 1, owner=owner)
    return claim


async def drain(broker: Store, owner: Owner) -> list[str]:
    """Claim and acknowledge, a few at a time, until nothing is left; return the ids."""
    done = []
    while claims := await take(broker, 7, owner=owner):
        assert all(await broker.settle(owner, [Ack(claim) for claim in claims]))
        done += ids(claims)
    await broker.aclose()
    return done


async def crash(broker: Store, owner: Owner = ALICE) -> Reclaimed:
    return await aside(broker.reclaim, owner, "killed by SIGKILL")


def ids(claims: list[Claim]) -> list[str]:
    return [claim.envelope.id for claim in claims]


def ids_of(envelopes: list[Envelope]) -> list[str]:
    return [envelope.id for envelope in envelopes]


HANDING_BACK: dict[str, Callable[[Store, Claim], Awaitable[object]]] = {
    "release": lambda broker, claim: broker.settle(claim.owner, [Release(claim)]),
    "retry": lambda broker, claim: broker.settle(claim.owner, [Retry(claim, 0.0)]),
    "keep only": lambda broker, claim: broker.keep_only(claim.owner, []),
    "leave": lambda broker, claim: aside(broker.leave, claim.owner.node),
    "reclaim": lambda broker, claim: crash(broker, claim.owner),
}


class BrokerContract:
    """The behaviours of one store; ALICE's and BOB's nodes have a lease when a test begins."""

    @pytest.fixture
    def failed_cap(self):
        return 1000

    @pytest.fixture
    def backdoor(self, failed_cap):
        raise NotImplementedError

    @pytest.fixture
    async def broker(self, backdoor):
        broker = backdoor.open()
        for owner in (ALICE, BOB):
            await aside(broker.renew, owner.node, A_LEASE)
        yield broker
        await broker.aclose()

    @pytest.fixture
    async def second_broker(self, backdoor):
        broker = backdoor.open()
        yield broker
        await broker.aclose()

    # Push

    async def test_a_task_arrives_as_it_was_sent(self, broker):
        sent = replace(
            a_task(1, "two", [3.5, None, True], {"four": [4]}),
            kwargs={"limit": 2**63, "nested": {"deep": [{"er": []}]}},
            priority=7,
            run_after=time.time() - 1,
            max_rescues=5,
            unique=mutex(),
            headers={"trace": "00-4bf9"},
        )

        assert await broker.apush([sent]) == [True]
        claim = await take_one(broker)

        assert claim.envelope == replace(sent, attempt=1)
        assert claim.owner == ALICE
        assert claim.problem is None

    def test_a_synchronous_push_does_the_same(self, broker):
        assert broker.push(tasks(2)) == [True, True]
        assert broker.depth("mail") == Depth(waiting=2, delayed=0, running=0)

    async def test_an_empty_push_adds_nothing(self, broker):
        assert await broker.apush([]) == []
        assert await aside(broker.push, []) == []
        assert await aside(broker.queues) == []

    async def test_ten_thousand_tasks_are_pushed_in_one_call_and_stay_in_order(self, broker):
        sent = tasks(10_000)

        assert await broker.apush(sent) == [True] * 10_000

        taken = []
        while claims := await take(broker):
            taken += ids(claims)
        assert taken == ids_of(sent)

    async def test_a_push_reaches_several_queues(self, broker):
        mail, images = a_task(queue="mail"), a_task(queue="images")

        assert await broker.apush([mail, images]) == [True, True]

        assert ids(await take(broker, queue="images")) == [images.id]
        assert ids(await take(broker, queue="mail")) == [mail.id]

    async def test_any_text_survives(self, broker):
        text = 'naïve 漢字 🦊 \x00 \u2028 "quoted" \\ %s :name {0} \x7f'
        await broker.apush([replace(a_task(text), kwargs={text: text}, headers={"who": text})])

        envelope = (await take_one(broker)).envelope

        assert (envelope.args, envelope.kwargs, envelope.headers) == ([text], {text: text}, {"who": text})

    async def test_a_queue_may_have_any_name(self, broker):
        name = "Größe/日本 %s 'x' 🦊"
        sent = a_task(queue=name)
        await broker.apush([sent])

        assert await aside(broker.queues) == [name]
        assert ids(await take(broker, queue=name)) == [sent.id]

    async def test_the_names_of_queues_are_told_apart_by_case(self, broker):
        await broker.apush([a_task(queue="mail")])

        assert await take(broker, queue="Mail") == []
        assert await aside(broker.depth, "MAIL") == Depth(0, 0, 0)

    async def test_a_mebibyte_that_does_not_compress_survives(self, broker):
        noise = secrets.token_hex(2**20)
        await broker.apush([a_task(noise), a_task("small")])

        first, second = await take(broker)

        assert first.envelope.args == [noise]
        assert second.envelope.args == ["small"]

    @pytest.mark.parametrize(
        ("argument", "error"),
        [("x" * (wire.MAX_BYTES + 1), PayloadTooLarge), (object(), TypeError)],
        ids=["too large", "not JSON"],
    )
    async def test_a_push_with_an_impossible_argument_stores_nothing_of_the_push(self, broker, argument, error):
        with pytest.raises(error):
            await broker.apush([a_task(unique=mutex()), a_task(argument)])

        assert await aside(broker.queues) == []
        assert await broker.apush([a_task(unique=mutex())]) == [True]

    # Claim

    async def test_an_empty_queue_gives_nothing(self, broker):
        assert await take(broker) == []

    async def test_a_claim_takes_no_more_than_its_limit(self, broker):
        await broker.apush(tasks(5))

        assert len(await take(broker, 3)) == 3
        assert len(await take(broker, 3)) == 2
        assert await take(broker, 3) == []

    async def test_a_claim_leaves_other_queues_alone(self, broker):
        await broker.apush(tasks(2, queue="images"))

        assert await take(broker, queue="mail") == []
        assert await aside(broker.depth, "images") == Depth(waiting=2, delayed=0, running=0)

    async def test_a_claimed_task_is_nobody_elses(self, broker, second_broker):
        await broker.apush(tasks(1))
        await take_one(broker)

        assert await take(broker) == []
        assert await take(second_broker, owner=BOB) == []

    async def test_the_highest_priority_comes_first(self, broker):
        sent = [a_task(priority=priority) for priority in (0, -100, 100, 1, -1)]
        await broker.apush(sent)

        priorities = [claim.envelope.priority for claim in await take(broker)]

        assert priorities == [100, 1, 0, -1, -100]

    async def test_equal_priorities_keep_their_order_within_a_push(self, broker):
        sent = [a_task(priority=priority) for priority in (0, 5, -5) * 20]
        await broker.apush(sent)

        assert ids(await take(broker)) == ids_of(sorted(sent, key=lambda task: -task.priority))

    async def test_equal_priorities_keep_their_order_across_pushes_at_the_same_time(self, broker, second_broker):
        sent = [replace(task, enqueued_at=1.0) for task in tasks(6)]
        for index, task in enumerate(sent):
            await (second_broker if index % 2 else broker).apush([task])

        assert ids(await take(broker)) == ids_of(sent)

    async def test_order_holds_across_claims(self, broker):
        sent = [a_task(priority=priority) for priority in (0, 1) * 10]
        await broker.apush(sent)

        taken = [task_id for _ in range(10) for task_id in ids(await take(broker, 2))]

        assert taken == ids_of(sorted(sent, key=lambda task: -task.priority))

    async def test_a_delayed_task_is_not_claimed_before_its_time(self, broker):
        await broker.apush([a_task(run_after=in_an_hour(), priority=100)])

        assert await take(broker) == []
        assert await aside(broker.depth, "mail") == Depth(waiting=0, delayed=1, running=0)

    async def test_a_task_whose_time_is_past_is_due_at_once(self, broker):
        past, plain = a_task(run_after=time.time() - 60), a_task()
        await broker.apush([past, plain])

        assert ids(await take(broker)) == [past.id, plain.id]

    async def test_a_delayed_task_takes_its_place_once_due(self, broker, backdoor):
        first, later, last = a_task(), a_task(run_after=in_an_hour()), a_task()
        urgent = a_task(run_after=in_an_hour(), priority=1)
        await broker.apush([first, later, last, urgent])

        await aside(backdoor.make_due, later.id)
        await aside(backdoor.make_due, urgent.id)

        assert ids(await take(broker)) == ids_of([urgent, first, later, last])

    async def test_attempts_count_from_one(self, broker):
        await broker.apush(tasks(1))

        claim = await take_one(broker)

        assert (claim.envelope.attempt, claim.envelope.crashes) == (1, 0)

    async def test_two_brokers_never_claim_the_same_task(self, broker, backdoor):
        sent = tasks(300)
        await broker.apush(sent)

        owners = [replaced(owner, slot=f"mail#{slot}") for owner in (ALICE, BOB) for slot in range(3)]
        shares = await asyncio.gather(*(drain(backdoor.open(), owner) for owner in owners))

        assert sorted(sum(shares, [])) == sorted(ids_of(sent))

    def test_claimers_in_threads_never_claim_the_same_task(self, broker, backdoor):
        sent = tasks(300)
        broker.push(sent)

        shares = at_once(lambda slot: asyncio.run(drain(backdoor.open(), replaced(ALICE, slot=f"mail#{slot}"))), 4)

        assert sorted(sum(shares, [])) == sorted(ids_of(sent))

    async def test_nothing_is_lost_between_pushers_and_claimers_at_work_together(self, broker, backdoor):
        sent = tasks(200)
        claims = []

        async def produce():
            for chunk in batched(sent, 10):
                await broker.apush(chunk)

        async def consume():
            while len(claims) < len(sent):
                claims.extend(await broker.claim(ALICE, "mail", 9, wait=5.0))

        async with asyncio.timeout(SOON):
            await asyncio.gather(produce(), consume())

        assert sorted(ids(claims)) == sorted(ids_of(sent))

    # Wait

    async def test_an_idle_claim_returns_when_its_wait_is_over(self, broker):
        async with asyncio.timeout(SOON):
            assert await broker.claim(ALICE, "mail", 1, wait=0.2) == []

    @pytest.mark.parametrize("brokers", ["one broker", "two brokers"])
    async def test_an_idle_claim_wakes_on_a_push(self, broker, second_broker, brokers):
        idle = await self.idle_claim(broker)
        pusher = broker if brokers == "one broker" else second_broker
        sent = a_task()

        await pusher.apush([sent])

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [sent.id]

    async def test_an_idle_claim_wakes_on_a_push_from_a_thread(self, broker, second_broker):
        idle = await self.idle_claim(broker)
        sent = a_task()

        await aside(second_broker.push, [sent])

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [sent.id]

    async def test_every_idle_claim_is_served(self, broker, second_broker):
        idle = [await self.idle_claim(broker), await self.idle_claim(second_broker, BOB)]

        for _ in idle:
            await second_broker.apush(tasks(1))

        served = await asyncio.wait_for(asyncio.gather(*idle), AT_ONCE)
        assert [len(claims) for claims in served] == [1, 1]

    async def test_an_idle_claim_wakes_when_a_delayed_task_is_due(self, broker):
        idle = await self.idle_claim(broker)
        due = time.time() + 0.3

        await broker.apush([a_task(run_after=due)])

        assert await asyncio.wait_for(idle, AT_ONCE)
        assert time.time() >= due

    @pytest.mark.parametrize("hand_back", HANDING_BACK.values(), ids=HANDING_BACK)
    async def test_an_idle_claim_wakes_on_a_task_that_another_owner_hands_back(self, broker, second_broker, hand_back):
        await broker.apush(tasks(1))
        claim = await take_one(broker, owner=BOB)
        idle = await self.idle_claim(broker)

        await hand_back(second_broker, claim)

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [claim.envelope.id]

    async def test_an_idle_claim_sleeps_through_what_other_queues_get(self, broker, second_broker):
        idle = asyncio.create_task(broker.claim(ALICE, "mail", 1, wait=0.3))

        await second_broker.apush(tasks(1, queue="images"))

        assert await asyncio.wait_for(idle, SOON) == []

    async def test_a_cancelled_idle_claim_takes_nothing(self, broker):
        idle = await self.idle_claim(broker)

        idle.cancel()
        await asyncio.wait({idle}, timeout=SOON)
        await broker.apush(tasks(1))

        assert idle.cancelled()
        assert (await take_one(broker)).envelope.attempt == 1

    async def test_a_claim_cancelled_as_a_task_arrives_loses_nothing(self, broker, second_broker):
        idle = await self.idle_claim(broker)
        sent = a_task()

        await second_broker.apush([sent])
        idle.cancel()
        await asyncio.wait({idle}, timeout=SOON)
        if idle.cancelled():
            await broker.keep_only(ALICE, [])
            [claim] = await broker.claim(ALICE, "mail", 1, wait=SOON)
        else:
            [claim] = idle.result()

        assert (claim.envelope.id, claim.envelope.attempt) == (sent.id, 1)

    async def idle_claim(self, broker, owner=ALICE):
        """Return a claim that has found nothing so far."""
        idle = asyncio.create_task(broker.claim(owner, "mail", 1, wait=60.0))
        await asyncio.wait({idle}, timeout=0.1)
        assert not idle.done()
        return idle

    # Unique

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

        await broker.settle(BOB, [Ack(await take_one(broker, owner=BOB))])
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
        await take_one(broker, owner=BOB)

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

    # Settle

    async def test_an_acknowledged_task_is_gone(self, broker):
        await broker.apush(tasks(1))

        assert await broker.settle(ALICE, [Ack(await take_one(broker))]) == [True]

        assert await aside(broker.queues) == []
        assert await aside(broker.failed_count) == 0
        assert await crash(broker) == Reclaimed([], [])

    async def test_a_buried_task_stands_in_the_failed_list(self, broker):
        sent = a_task(queue="mail")
        await broker.apush([sent])

        assert await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)]) == [True]

        [entry] = await aside(broker.failed)
        assert (entry.id, entry.queue, entry.task) == (sent.id, "mail", "demo.tasks.send")
        assert (entry.failure, entry.attempts, entry.crashes) == (FAILURE, 1, 0)
        assert abs(entry.failed_at - time.time()) < 60
        assert await aside(broker.queues) == []

    async def test_a_retried_task_waits_out_its_delay(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])

        assert await broker.settle(ALICE, [Retry(await take_one(broker), 3600.0)]) == [True]

        assert await take(broker) == []
        assert await aside(broker.depth, "mail") == Depth(waiting=0, delayed=1, running=0)
        await aside(backdoor.make_due, sent.id)
        assert (await take_one(broker)).envelope.attempt == 2

    async def test_a_task_retried_without_delay_is_due_at_once(self, broker):
        await broker.apush(tasks(1))

        await broker.settle(ALICE, [Retry(await take_one(broker), 0.0)])

        assert (await take_one(broker)).envelope.attempt == 2

    async def test_an_idle_claim_wakes_when_a_retry_is_due(self, broker):
        await broker.apush(tasks(1))

        await broker.settle(ALICE, [Retry(await take_one(broker), 0.2)])

        async with asyncio.timeout(SOON):
            [claim] = await broker.claim(ALICE, "mail", 1, wait=60.0)
        assert claim.envelope.attempt == 2

    async def test_a_released_task_is_as_if_it_had_not_been_claimed(self, broker):
        sent = tasks(3)
        await broker.apush(sent)
        claims = await take(broker, 2)

        assert await broker.settle(ALICE, [Release(claim) for claim in claims]) == [True, True]

        again = await take(broker)
        assert ids(again) == ids_of(sent)
        assert [claim.envelope.attempt for claim in again] == [1, 1, 1]

    async def test_an_empty_settle_does_nothing(self, broker):
        assert await broker.settle(ALICE, []) == []

    async def test_all_four_endings_go_through_one_settle(self, broker):
        sent = tasks(4)
        await broker.apush(sent)
        claims = await take(broker)

        settlements = [Release(claims[0]), Bury(claims[1], FAILURE), Ack(claims[2]), Retry(claims[3], 3600.0)]
        assert await broker.settle(ALICE, settlements) == [True] * 4

        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=1, running=0)
        assert [entry.id for entry in await aside(broker.failed)] == [sent[1].id]
        assert ids(await take(broker)) == [sent[0].id]

    async def test_a_settle_answers_in_the_order_of_its_input(self, broker):
        await broker.apush(tasks(4))
        claims = await take(broker)
        await broker.settle(ALICE, [Ack(claims[0]), Bury(claims[2], FAILURE)])

        answers = await broker.settle(ALICE, [Release(claims[0]), Ack(claims[1]), Ack(claims[2]), Release(claims[3])])

        assert answers == [False, True, False, True]

    async def test_a_thousand_claims_are_settled_in_one_call(self, broker):
        await broker.apush(tasks(1000))
        claims = await take(broker, 1000)

        settlements = [(Ack, Release)[number % 2](claim) for number, claim in enumerate(claims)]
        assert await broker.settle(ALICE, settlements) == [True] * 1000

        assert await aside(broker.depth, "mail") == Depth(waiting=500, delayed=0, running=0)

    @every_ending
    async def test_a_settlement_holds_once(self, broker, ending):
        await broker.apush(tasks(1))
        claim = await take_one(broker)
        assert await broker.settle(ALICE, [ending(claim)]) == [True]
        before = await self.picture(broker)

        assert await broker.settle(ALICE, [ending(claim)]) == [False]

        assert await self.picture(broker) == before

    @every_ending
    async def test_a_settlement_after_a_reclaim_is_refused(self, broker, ending):
        await broker.apush(tasks(1))
        late = await take_one(broker)
        await crash(broker)
        before = await self.picture(broker)

        assert await broker.settle(ALICE, [ending(late)]) == [False]

        assert await self.picture(broker) == before

    @every_ending
    async def test_a_settlement_after_a_reclaim_does_not_touch_the_next_owner(self, broker, ending):
        await broker.apush(tasks(1))
        late = await take_one(broker)
        await crash(broker)
        claim = await take_one(broker, owner=BOB)

        assert await broker.settle(ALICE, [ending(late)]) == [False]

        assert await broker.settle(BOB, [Ack(claim)]) == [True]

    @every_ending
    async def test_a_settlement_of_an_earlier_claim_by_the_same_owner_is_refused(self, broker, ending):
        await broker.apush(tasks(1))
        earlier = await take_one(broker)
        await broker.keep_only(ALICE, [])
        claim = await take_one(broker)

        assert await broker.settle(ALICE, [ending(earlier)]) == [False]

        assert claim.receipt != earlier.receipt
        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    @every_ending
    async def test_an_earlier_and_the_present_claim_in_one_settle_are_told_apart(self, broker, ending):
        await broker.apush(tasks(1))
        earlier = await take_one(broker)
        await broker.keep_only(ALICE, [])
        claim = await take_one(broker)

        assert await broker.settle(ALICE, [ending(earlier), ending(claim)]) == [False, True]

    @every_ending
    async def test_a_settlement_by_another_owner_is_refused(self, broker, ending):
        await broker.apush(tasks(1))
        claim = await take_one(broker)

        for other in (BOB, replaced(ALICE, slot="mail#2"), replaced(ALICE, incarnation=2)):
            assert await broker.settle(other, [ending(claim)]) == [False]

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    @every_ending
    async def test_a_settlement_after_the_node_left_is_refused(self, broker, ending):
        await broker.apush(tasks(1))
        late = await take_one(broker)
        await aside(broker.leave, ALICE.node)
        before = await self.picture(broker)

        assert await broker.settle(ALICE, [ending(late)]) == [False]

        assert await self.picture(broker) == before

    async def picture(self, broker):
        """Return all that the contract shows of a store."""
        return (
            await aside(broker.depth, "mail"),
            await aside(broker.queues),
            [(entry.id, entry.failure) for entry in await aside(broker.failed)],
        )

    # Unreadable payloads

    @every_unreadable_payload
    async def test_an_unreadable_task_is_claimed_with_its_problem_and_can_be_buried(self, broker, backdoor, payload):
        sent = a_task()
        await broker.apush([sent])
        await aside(backdoor.corrupt, sent.id, payload)

        claim = await take_one(broker)

        assert claim.envelope == Envelope.unreadable(sent.id, "mail")
        assert claim.problem
        failure = TaskFailure("django_vtasks.errors.PayloadError", claim.problem)
        assert await broker.settle(ALICE, [Bury(claim, failure)]) == [True]
        [entry] = await aside(broker.failed)
        assert (entry.id, entry.queue, entry.task, entry.failure) == (sent.id, "mail", "", failure)

    async def test_a_truncated_payload_is_unreadable(self, broker, backdoor):
        plain, compressed = a_task("short"), a_task("long" * 1000)
        await broker.apush([plain, compressed])
        for task in (plain, compressed):
            payload = await aside(backdoor.payload_of, task.id)
            await aside(backdoor.corrupt, task.id, payload[:-3])

        claims = await take(broker)

        assert ids(claims) == [plain.id, compressed.id]
        assert all(claim.problem for claim in claims)

    async def test_an_unreadable_task_does_not_hold_up_its_neighbours(self, broker, backdoor):
        sent = tasks(3)
        await broker.apush(sent)
        await aside(backdoor.corrupt, sent[1].id, b"\xff" * 50)

        claims = await take(broker)

        assert ids(claims) == ids_of(sent)
        assert [claim.problem is None for claim in claims] == [True, False, True]

    async def test_an_unreadable_task_can_be_released(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])
        await aside(backdoor.corrupt, sent.id, b"?")

        assert await broker.settle(ALICE, [Release(await take_one(broker))]) == [True]

        assert (await take_one(broker)).problem

    async def test_an_unreadable_task_whose_owner_dies_is_buried(self, broker, backdoor):
        sent = a_task(unique=mutex())
        await broker.apush([sent])
        await aside(backdoor.corrupt, sent.id, b"?")
        await take_one(broker)

        assert await crash(broker) == Reclaimed([], [sent.id])

        [entry] = await aside(broker.failed)
        assert (entry.id, entry.task) == (sent.id, "")
        assert await broker.apush([a_task(unique=mutex())]) == [True]

    # The failed list

    async def test_failed_tasks_are_listed_newest_first(self, broker):
        sent = tasks(3)
        await broker.apush(sent)
        for claim in await take(broker):
            await broker.settle(ALICE, [Bury(claim, FAILURE)])

        newest_first = ids_of(sent)[::-1]
        assert [entry.id for entry in await aside(broker.failed)] == newest_first
        assert [entry.id for entry in await aside(broker.failed, 2)] == newest_first[:2]
        assert await aside(broker.failed_count) == 3

    @pytest.mark.parametrize("failed_cap", [3])
    async def test_a_full_failed_list_drops_the_oldest_and_counts_them(self, broker, second_broker):
        sent = tasks(5)
        await broker.apush(sent)

        await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in await take(broker, 4)])
        assert await aside(second_broker.evictions) == 1
        await second_broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        assert [entry.id for entry in await aside(broker.failed)] == ids_of(sent[:1:-1])
        assert await aside(broker.failed_count) == 3
        assert await aside(broker.evictions) == 2

    @pytest.mark.parametrize("failed_cap", [1])
    async def test_poison_counts_for_the_cap_too(self, broker):
        await broker.apush(tasks(3, max_rescues=0))
        await take(broker)

        await crash(broker)

        assert await aside(broker.failed_count) == 1
        assert await aside(broker.evictions) == 2

    async def test_nothing_is_evicted_from_a_list_with_room(self, broker):
        await broker.apush(tasks(3))
        await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in await take(broker)])

        assert await aside(broker.evictions) == 0

    @pytest.mark.parametrize("failed_cap", [1])
    async def test_clearing_the_failed_list_is_no_eviction(self, broker):
        await broker.apush(tasks(2))
        await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in await take(broker)])

        assert await aside(broker.clear_failed) == 1
        assert await aside(broker.clear_failed) == 0

        assert await aside(broker.failed) == []
        assert await aside(broker.failed_count) == 0
        assert await aside(broker.evictions) == 1

    async def test_clearing_the_failed_list_leaves_tasks_alone(self, broker):
        await broker.apush([a_task(), a_task(run_after=in_an_hour())])

        assert await aside(broker.clear_failed) == 0

        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=1, running=0)

    async def test_a_failed_task_counts_its_attempts_and_crashes(self, broker):
        await broker.apush(tasks(1))
        await take_one(broker)
        await crash(broker)
        await broker.settle(ALICE, [Retry(await take_one(broker), 0.0)])

        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        [entry] = await aside(broker.failed)
        assert (entry.attempts, entry.crashes) == (3, 1)

    async def test_a_failure_may_say_anything_at_any_length(self, broker):
        said = "漢字 🦊 %s {0} ' \" \\ \n" * 20_000
        await broker.apush(tasks(1))

        await broker.settle(ALICE, [Bury(await take_one(broker), TaskFailure("a.B", said, said))])

        [entry] = await aside(broker.failed)
        assert entry.failure == TaskFailure("a.B", said, said)

    async def test_a_failure_that_is_not_storable_text_is_kept_as_well_as_it_can_be(self, broker):
        said = "before \x00 NUL, before \udcff surrogate, after"
        await broker.apush(tasks(1))

        assert await broker.settle(ALICE, [Bury(await take_one(broker), TaskFailure("a.B", said, said))]) == [True]

        [entry] = await aside(broker.failed)
        assert entry.failure.message.startswith("before")
        assert entry.failure.message.endswith("after")

    # Crash

    async def test_a_dead_owners_tasks_wait_again_with_the_crash_counted(self, broker):
        sent = tasks(2)
        await broker.apush(sent)
        await take(broker)

        reclaimed = await crash(broker)

        assert sorted(reclaimed.returned) == sorted(ids_of(sent))
        assert reclaimed.buried == []
        claims = await take(broker, owner=BOB)
        assert [(claim.envelope.attempt, claim.envelope.crashes) for claim in claims] == [(2, 1)] * 2

    async def test_a_dead_owners_tasks_go_back_to_their_old_place(self, broker):
        sent = [a_task(priority=1), *tasks(3)]
        await broker.apush(sent)
        await take(broker, 2)

        await crash(broker)

        assert ids(await take(broker)) == ids_of(sent)

    @pytest.mark.parametrize(
        "other", [BOB, replaced(ALICE, slot="mail#10"), replaced(ALICE, incarnation=2)], ids=str
    )
    async def test_a_reclaim_takes_from_one_owner_only(self, broker, other):
        await broker.apush(tasks(2))
        await take_one(broker)
        claim = await take_one(broker, owner=other)

        assert len((await crash(broker)).returned) == 1

        assert await broker.settle(other, [Ack(claim)]) == [True]

    async def test_a_reclaim_repeated_changes_nothing(self, broker):
        await broker.apush(tasks(1))
        await take_one(broker)
        await crash(broker)

        assert await crash(broker) == Reclaimed([], [])

        assert (await take_one(broker)).envelope.crashes == 1

    async def test_a_reclaim_from_an_owner_who_holds_nothing_is_empty(self, broker):
        assert await crash(broker, Owner("nowhere", "mail#1")) == Reclaimed([], [])

    @pytest.mark.parametrize("max_rescues", [0, 2])
    async def test_a_task_that_kills_its_owners_is_given_up_as_poison(self, broker, max_rescues):
        sent = a_task(max_rescues=max_rescues)
        await broker.apush([sent])
        for _ in range(max_rescues):
            await take_one(broker)
            assert await crash(broker) == Reclaimed([sent.id], [])
        await take_one(broker)

        assert await crash(broker) == Reclaimed([], [sent.id])

        assert await take(broker) == []
        [entry] = await aside(broker.failed)
        assert (entry.id, entry.task) == (sent.id, "demo.tasks.send")
        assert (entry.attempts, entry.crashes) == (max_rescues + 1, max_rescues + 1)

    async def test_poison_names_its_cause(self, broker):
        await broker.apush(tasks(1, max_rescues=0))
        await take_one(broker)

        await aside(broker.reclaim, ALICE, "killed by SIGSEGV")

        [entry] = await aside(broker.failed)
        assert entry.failure.exception == "django_vtasks.errors.WorkerLost"
        assert "killed by SIGSEGV" in entry.failure.message
        assert "1" in entry.failure.message

    async def test_poison_does_not_take_its_neighbours_along(self, broker):
        poison, innocent = a_task(max_rescues=0), a_task()
        await broker.apush([poison, innocent])
        await take(broker)

        assert await crash(broker) == Reclaimed([innocent.id], [poison.id])

    async def test_giving_back_counts_no_crash(self, broker):
        await broker.apush(tasks(1, max_rescues=0))

        for _ in range(3):
            await broker.settle(ALICE, [Release(await take_one(broker))])

        claim = await take_one(broker)
        assert (claim.envelope.attempt, claim.envelope.crashes) == (1, 0)

    async def test_a_crash_before_the_claim_finds_the_task_waiting(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])

        await aside(backdoor.expire_lease, ALICE.node)
        assert await aside(broker.reclaim_expired, "host lost") == Reclaimed([], [])

        assert (await take_one(broker, owner=BOB)).envelope == replace(sent, attempt=1)

    @every_ending
    async def test_a_crash_after_the_settlement_changes_nothing(self, broker, backdoor, ending):
        await broker.apush(tasks(1))
        await broker.settle(ALICE, [ending(await take_one(broker))])
        before = await self.picture(broker)

        assert await crash(broker) == Reclaimed([], [])
        await aside(backdoor.expire_lease, ALICE.node)
        assert await aside(broker.reclaim_expired, "host lost") == Reclaimed([], [])

        assert await self.picture(broker) == before

    async def test_a_crash_between_two_settlements_returns_the_rest(self, broker):
        sent = tasks(3)
        await broker.apush(sent)
        claims = await take(broker)
        await broker.settle(ALICE, [Ack(claims[0])])

        assert sorted((await crash(broker)).returned) == sorted(ids_of(sent[1:]))

    # Leases

    async def test_without_a_lease_nothing_can_be_claimed(self, broker):
        await broker.apush(tasks(1))

        with pytest.raises(LeaseLost):
            await take(broker, owner=Owner("nowhere", "mail#1"))

        assert await aside(broker.depth, "mail") == Depth(waiting=1, delayed=0, running=0)

    async def test_without_a_lease_a_claim_fails_on_an_empty_queue_too(self, broker):
        with pytest.raises(LeaseLost):
            await take(broker, owner=Owner("nowhere", "mail#1"))

    async def test_a_lease_is_new_once(self, broker):
        assert await aside(broker.renew, "east", A_LEASE) is False
        assert await aside(broker.renew, "east", A_LEASE) is True

    async def test_a_lease_that_ran_out_is_held_until_it_is_reclaimed(self, broker, backdoor):
        await broker.apush(tasks(2))
        claim = await take_one(broker)
        await aside(backdoor.expire_lease, ALICE.node)

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]
        await take_one(broker)
        assert await aside(broker.renew, ALICE.node, A_LEASE) is True
        assert await aside(broker.reclaim_expired, "host lost") == Reclaimed([], [])

    async def test_a_node_whose_lease_ran_out_loses_its_tasks_to_the_others(self, broker, second_broker, backdoor):
        sent = tasks(3)
        await broker.apush(sent)
        await take_one(broker)
        await take_one(broker, owner=replaced(ALICE, slot="mail#2"))
        kept = await take_one(broker, owner=BOB)
        await aside(backdoor.expire_lease, ALICE.node)

        reclaimed = await aside(second_broker.reclaim_expired, "host lost")

        assert sorted(reclaimed.returned) == sorted(ids_of(sent[:2]))
        assert [claim.envelope.crashes for claim in await take(broker, owner=BOB)] == [1, 1]
        assert await broker.settle(BOB, [Ack(kept)]) == [True]

    async def test_a_node_without_a_lease_row_loses_its_tasks_too(self, broker, backdoor):
        sent = a_task()
        await broker.apush([sent])
        await take_one(broker)
        await aside(backdoor.drop_lease, ALICE.node)

        assert await aside(broker.reclaim_expired, "host lost") == Reclaimed([sent.id], [])

    async def test_a_vanished_nodes_poison_is_buried(self, broker, backdoor):
        sent = a_task(max_rescues=0)
        await broker.apush([sent])
        await take_one(broker)
        await aside(backdoor.expire_lease, ALICE.node)

        assert await aside(broker.reclaim_expired, "host lost") == Reclaimed([], [sent.id])

        [entry] = await aside(broker.failed)
        assert "host lost" in entry.failure.message

    async def test_a_reclaimed_node_has_lost_its_lease_until_it_renews(self, broker, backdoor):
        await broker.apush(tasks(1))
        late = await take_one(broker)
        await aside(backdoor.expire_lease, ALICE.node)
        await aside(broker.reclaim_expired, "host lost")

        with pytest.raises(LeaseLost):
            await take(broker)
        assert await broker.settle(ALICE, [Ack(late)]) == [False]
        assert await aside(broker.renew, ALICE.node, A_LEASE) is False
        assert (await take_one(broker)).envelope.id == late.envelope.id

    async def test_while_every_lease_runs_nothing_is_reclaimed(self, broker):
        await broker.apush(tasks(1))
        claim = await take_one(broker)

        assert await aside(broker.reclaim_expired, "host lost") == Reclaimed([], [])

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    def test_of_many_who_reclaim_at_once_one_gets_each_task(self, broker, backdoor):
        sent = tasks(40)
        broker.push(sent)
        asyncio.run(self.hold_everything(backdoor))
        backdoor.expire_lease(ALICE.node)

        results = at_once(lambda _: backdoor.open().reclaim_expired("host lost"), 4)

        assert sorted(sum((result.returned for result in results), [])) == sorted(ids_of(sent))

    async def hold_everything(self, backdoor):
        broker = backdoor.open()
        await take(broker)
        await broker.aclose()

    async def test_nodes_tells_how_long_each_lease_still_runs(self, broker, backdoor):
        await aside(broker.renew, "east", 30.0)
        await aside(backdoor.expire_lease, BOB.node)

        nodes = await aside(broker.nodes)

        assert 0 < nodes["east"] <= 30.0
        assert 30.0 < nodes[ALICE.node] <= A_LEASE
        assert nodes.get(BOB.node, 0.0) <= 0.0

    async def test_a_node_that_leaves_gives_back_what_it_held_unharmed(self, broker):
        sent = tasks(3, max_rescues=0)
        await broker.apush(sent)
        await take_one(broker)
        await take_one(broker, owner=replaced(ALICE, slot="mail#2"))

        await aside(broker.leave, ALICE.node)

        claims = await take(broker, owner=BOB)
        assert ids(claims) == ids_of(sent)
        assert {(claim.envelope.attempt, claim.envelope.crashes) for claim in claims} == {(1, 0)}

    async def test_a_node_that_left_claims_no_more(self, broker):
        await aside(broker.leave, ALICE.node)

        with pytest.raises(LeaseLost):
            await take(broker)
        assert ALICE.node not in await aside(broker.nodes)

    async def test_a_node_that_leaves_takes_nothing_from_the_others(self, broker):
        await broker.apush(tasks(1))
        claim = await take_one(broker, owner=BOB)

        await aside(broker.leave, ALICE.node)

        assert await broker.settle(BOB, [Ack(claim)]) == [True]

    async def test_leaving_twice_or_unknown_is_harmless(self, broker):
        await aside(broker.leave, ALICE.node)
        await aside(broker.leave, ALICE.node)
        await aside(broker.leave, "nowhere")

        assert set(await aside(broker.nodes)) == {BOB.node}

    # Answers that never arrived

    async def test_keep_only_gives_back_what_the_owner_does_not_know_of(self, broker):
        sent = tasks(3)
        await broker.apush(sent)
        lost, kept, also_lost = await take(broker)

        assert await broker.keep_only(ALICE, [kept.receipt]) == 2

        again = await take(broker, owner=BOB)
        assert ids(again) == [lost.envelope.id, also_lost.envelope.id]
        assert {(claim.envelope.attempt, claim.envelope.crashes) for claim in again} == {(1, 0)}
        assert await broker.settle(ALICE, [Ack(kept), Ack(lost)]) == [True, False]

    async def test_keep_only_knows_claims_by_receipt_and_not_by_task(self, broker):
        await broker.apush(tasks(1))
        earlier = await take_one(broker)
        await broker.settle(ALICE, [Release(earlier)])
        await take_one(broker)

        assert await broker.keep_only(ALICE, [earlier.receipt]) == 1

    async def test_keep_only_gives_back_nothing_that_is_held(self, broker):
        await broker.apush(tasks(2))
        claims = await take(broker)

        assert await broker.keep_only(ALICE, {claim.receipt for claim in claims}) == 0

        assert await broker.settle(ALICE, [Ack(claim) for claim in claims]) == [True, True]

    async def test_keep_only_leaves_other_owners_alone(self, broker):
        await broker.apush(tasks(2))
        claim = await take_one(broker, owner=BOB)
        await take_one(broker, owner=replaced(ALICE, slot="mail#10"))

        assert await broker.keep_only(ALICE, []) == 0

        assert await broker.settle(BOB, [Ack(claim)]) == [True]

    # Operate

    async def test_depth_tells_waiting_from_delayed_from_running(self, broker):
        await broker.apush([*tasks(3), *tasks(2, run_after=in_an_hour()), *tasks(4, queue="images")])
        await take_one(broker)

        assert await aside(broker.depth, "mail") == Depth(waiting=2, delayed=2, running=1)
        assert await aside(broker.depth, "images") == Depth(waiting=4, delayed=0, running=0)
        assert await aside(broker.depth, "nothing") == Depth(0, 0, 0)

    async def test_queues_names_all_that_hold_a_task_and_no_other(self, broker):
        await broker.apush(
            [a_task(queue="waiting"), a_task(queue="delayed", run_after=in_an_hour()), a_task(), a_task(queue="done")]
        )
        await take(broker, queue="mail")
        await broker.settle(ALICE, [Ack(claim) for claim in await take(broker, queue="done")])
        await take(broker, queue="empty")

        assert await aside(broker.queues) == ["delayed", "mail", "waiting"]

    async def test_clear_deletes_what_waits_and_keeps_what_runs(self, broker):
        await broker.apush(tasks(1))
        running = await take_one(broker)
        await broker.apush([*tasks(2), a_task(run_after=in_an_hour()), a_task(queue="images")])

        assert await aside(broker.clear, "mail") == 3

        assert await aside(broker.depth, "mail") == Depth(waiting=0, delayed=0, running=1)
        assert await aside(broker.depth, "images") == Depth(waiting=1, delayed=0, running=0)
        assert await broker.settle(ALICE, [Ack(running)]) == [True]

    async def test_clear_keeps_the_failed(self, broker):
        await broker.apush(tasks(2))
        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        assert await aside(broker.clear, "mail") == 1

        assert await aside(broker.failed_count) == 1

    async def test_clear_deletes_thousands(self, broker):
        await broker.apush([a_task(unique=mutex(str(number))) for number in range(2500)])

        assert await aside(broker.clear, "mail") == 2500
        assert await aside(broker.clear, "mail") == 0

        assert await aside(broker.queues) == []

    async def test_a_closed_broker_opens_again_when_called(self, broker):
        await broker.apush(tasks(2))
        await take_one(broker)
        await broker.aclose()
        await broker.aclose()

        claim = await take_one(broker)

        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    async def test_nothing_is_lost_when_a_broker_closes(self, broker, second_broker):
        await broker.apush(tasks(2))
        claim = await take_one(broker)

        await broker.aclose()

        assert await second_broker.settle(ALICE, [Ack(claim)]) == [True]
        assert await aside(second_broker.depth, "mail") == Depth(waiting=1, delayed=0, running=0)
