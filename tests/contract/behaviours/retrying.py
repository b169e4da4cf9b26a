"""Failed tasks that an operator looks at, lets run again, or deletes."""

import asyncio
import time

import msgspec

from django_vtasks.brokers.base import Ack, Bury, Depth, Retrial
from tests.contract.given import ALICE, FAILURE, a_task, mutex, tasks, throttle
from tests.contract.steps import AT_ONCE, idle_claim, ids, ids_of, take, take_one
from tests.contract.threads import aside, at_once


async def fail(broker, sent):
    """Push tasks and let them fail, the last one last; return their ids."""
    await broker.apush(sent)
    for queue in dict.fromkeys(task.queue for task in sent):
        claims = await take(broker, queue=queue)
        assert all(await broker.settle(ALICE, [Bury(claim, FAILURE) for claim in claims]))
    return ids_of(sent)


async def failed_ids(broker):
    return ids_of(await aside(broker.failed))


class Retrying:
    async def test_a_failed_task_is_found_by_its_id_with_its_arguments(self, broker):
        await fail(broker, [a_task("first"), sought := a_task("sought", priority=5, queue="images"), a_task("last")])

        entry = await aside(broker.failed_task, sought.id)

        assert (entry.id, entry.queue, entry.task, entry.failure) == (sought.id, "images", sought.task, FAILURE)
        assert (entry.envelope.args, entry.envelope.priority, entry.envelope.attempt) == (["sought"], 5, 1)
        assert abs(entry.failed_at - time.time()) < 60
        assert await aside(broker.failed_task, "no such id") is None

    async def test_of_one_that_cannot_be_read_there_is_no_envelope(self, broker, backdoor):
        unreadable = a_task()
        await broker.apush([unreadable])
        await aside(backdoor.corrupt, unreadable.id, b"\xff")
        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        entry = await aside(broker.failed_task, (await failed_ids(broker))[0])

        assert (entry.failure, entry.envelope) == (FAILURE, None)

    async def test_the_failed_list_can_be_asked_for_one_queue(self, broker):
        first = await fail(broker, tasks(2))
        await fail(broker, tasks(3, queue="images"))

        assert ids_of(await aside(broker.failed, 9, "mail")) == first[::-1]
        assert len(await aside(broker.failed, 2, "images")) == 2
        assert await aside(broker.failed, 9, "nothing") == []

    async def test_a_failed_task_runs_again_as_a_new_one_that_keeps_its_id(self, broker):
        stays, again = await fail(broker, [a_task("stays"), a_task("again", priority=3)])

        assert await aside(broker.retry_failed, [again]) == {again: Retrial.RETRIED}

        assert await failed_ids(broker) == [stays]
        [claim] = await take(broker)
        assert (claim.envelope.id, claim.envelope.args, claim.envelope.priority) == (again, ["again"], 3)
        assert (claim.envelope.attempt, claim.envelope.crashes) == (1, 0)
        assert abs(claim.envelope.enqueued_at - time.time()) < 60
        assert await broker.settle(ALICE, [Ack(claim)]) == [True]

    async def test_what_only_a_later_version_understands_survives_a_retry(self, broker, backdoor):
        await broker.apush([sent := a_task()])
        later = msgspec.to_builtins(sent) | {"later": [1, {"deep": "é"}]}
        await aside(backdoor.corrupt, sent.id, msgspec.json.encode(later))
        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        assert await aside(broker.retry_failed, [sent.id]) == {sent.id: Retrial.RETRIED}

        again = msgspec.json.decode(await aside(backdoor.payload_of, sent.id))
        assert again.pop("enqueued_at") > later.pop("enqueued_at")
        assert again == later

    async def test_a_delayed_task_that_failed_runs_again_at_once(self, broker, backdoor):
        delayed = a_task(run_after=time.time() + 3600)
        await broker.apush([delayed])
        await aside(backdoor.make_due, delayed.id)
        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        assert await aside(broker.retry_failed, [delayed.id]) == {delayed.id: Retrial.RETRIED}

        assert ids(await take(broker)) == [delayed.id]

    async def test_each_goes_back_to_its_own_queue(self, broker):
        failed = await fail(broker, [*tasks(2), *tasks(1, queue="odd:name 50%")])

        await aside(broker.retry_failed, failed)

        assert await aside(broker.queues) == ["mail", "odd:name 50%"]
        assert await aside(broker.depth, "odd:name 50%") == Depth(waiting=1, delayed=0, running=0)
        assert await aside(broker.failed_count) == 0

    async def test_what_is_not_in_the_list_is_unknown_and_the_others_run_all_the_same(self, broker):
        [known] = await fail(broker, tasks(1))

        answer = await aside(broker.retry_failed, ["no such id", known])

        assert answer == {"no such id": Retrial.UNKNOWN, known: Retrial.RETRIED}
        assert await aside(broker.retry_failed, [known]) == {known: Retrial.UNKNOWN}
        assert await aside(broker.retry_failed, []) == {}
        assert len(await take(broker)) == 1

    async def test_hundreds_are_retried_in_one_call(self, broker):
        failed = await fail(broker, tasks(700))

        assert set((await aside(broker.retry_failed, failed)).values()) == {Retrial.RETRIED}

        assert sorted(ids(await take(broker))) == sorted(failed)

    async def test_what_cannot_be_read_stays_in_the_list(self, broker, backdoor):
        unreadable = a_task()
        await broker.apush([unreadable])
        await aside(backdoor.corrupt, unreadable.id, b"\xff")
        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])
        [failed] = await failed_ids(broker)

        assert await aside(broker.retry_failed, [failed]) == {failed: Retrial.UNREADABLE}

        assert await failed_ids(broker) == [failed]
        assert await aside(broker.queues) == []

    async def test_a_retried_unique_task_holds_its_lock_again(self, broker, backdoor):
        [failed] = await fail(broker, [a_task(unique=mutex())])

        await aside(broker.retry_failed, [failed])

        assert await broker.apush([a_task(unique=mutex())]) == [False]
        await broker.settle(ALICE, [Ack(await take_one(broker))])
        assert await broker.apush([a_task(unique=mutex())]) == [True]

    async def test_one_whose_equal_is_under_way_stays_in_the_list_until_that_has_ended(self, broker):
        [failed] = await fail(broker, [a_task(unique=mutex())])
        await broker.apush([equal := a_task(unique=mutex())])

        assert await aside(broker.retry_failed, [failed]) == {failed: Retrial.DUPLICATE}
        assert await failed_ids(broker) == [failed]
        claim = await take_one(broker)
        assert claim.envelope.id == equal.id

        await broker.settle(ALICE, [Ack(claim)])
        assert await aside(broker.retry_failed, [failed]) == {failed: Retrial.RETRIED}

    async def test_of_two_equal_ones_one_is_retried_and_none_is_lost(self, broker):
        [first] = await fail(broker, [a_task(unique=mutex())])
        [second] = await fail(broker, [a_task(unique=mutex())])

        answer = await aside(broker.retry_failed, [first, second])

        assert sorted(retrial.value for retrial in answer.values()) == ["duplicate", "retried"]
        assert sorted([*await failed_ids(broker), *ids(await take(broker))]) == sorted([first, second])

    async def test_the_throttle_of_its_own_former_life_is_no_duplicate(self, broker, backdoor):
        [failed] = await fail(broker, [a_task(unique=throttle())])

        assert await aside(broker.retry_failed, [failed]) == {failed: Retrial.RETRIED}

        assert list((await aside(backdoor.locks)).values()) == [failed]

    async def test_a_lapsed_lock_of_another_task_is_no_duplicate(self, broker, backdoor):
        [failed] = await fail(broker, [a_task(unique=mutex())])
        lock = throttle()
        await broker.apush([a_task(unique=lock)])
        await broker.settle(ALICE, [Ack(await take_one(broker))])
        await aside(backdoor.lapse_lock, lock.key)

        assert await aside(broker.retry_failed, [failed]) == {failed: Retrial.RETRIED}

    async def test_an_idle_claim_wakes_on_a_retried_task(self, broker, second_broker):
        [failed] = await fail(broker, tasks(1))
        idle = await idle_claim(broker)

        await aside(second_broker.retry_failed, [failed])

        assert ids(await asyncio.wait_for(idle, AT_ONCE)) == [failed]

    async def test_a_task_that_fails_again_is_in_the_list_once(self, broker):
        [failed] = await fail(broker, tasks(1))
        await aside(broker.retry_failed, [failed])

        await broker.settle(ALICE, [Bury(await take_one(broker), FAILURE)])

        [entry] = await aside(broker.failed)
        assert (entry.id, entry.attempts) == (failed, 1)

    async def test_several_operators_retry_each_task_once(self, broker, backdoor):
        failed = await fail(broker, [*tasks(20), *(a_task(unique=mutex(str(number))) for number in range(20))])

        def work(number):
            return backdoor.open().retry_failed(failed if number % 2 else failed[::-1])

        answers = await asyncio.to_thread(at_once, work, 4)

        for task_id in failed:
            outcomes = [answer[task_id] for answer in answers]
            assert outcomes.count(Retrial.RETRIED) == 1
            assert outcomes.count(Retrial.UNKNOWN) == 3
        assert sorted(ids(await take(broker))) == sorted(failed)

    async def test_some_retry_while_others_delete_and_each_task_has_one_fate(self, broker, backdoor):
        failed = await fail(broker, tasks(40))

        def work(number):
            store = backdoor.open()
            if number % 2:
                return store.delete_failed(failed)
            return {task_id for task_id, retrial in store.retry_failed(failed).items() if retrial is Retrial.RETRIED}

        fates = await asyncio.to_thread(at_once, work, 4)

        assert sorted(sum(map(list, fates), [])) == sorted(failed)
        assert set(ids(await take(broker))) == fates[0] | fates[2]

    async def test_failed_tasks_are_deleted_by_id(self, broker):
        first, second, third = await fail(broker, tasks(3))

        assert await aside(broker.delete_failed, [third, "no such id", first]) == {first, third}
        assert await aside(broker.delete_failed, [third]) == set()
        assert await aside(broker.delete_failed, []) == set()

        assert await failed_ids(broker) == [second]
        assert await aside(broker.queues) == []
