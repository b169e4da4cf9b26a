"""What a push adds, and in what shape."""

import asyncio
import secrets
import time

import pytest
from msgspec.structs import replace

from django_vtasks import wire
from django_vtasks.brokers.base import Depth
from django_vtasks.errors import PayloadTooLarge
from tests.contract.given import ALICE, a_task, mutex, tasks
from tests.contract.steps import ids, ids_of, take, take_one
from tests.contract.threads import aside


class Pushing:
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

    @pytest.mark.parametrize("options", [{}, {"priority": 1}], ids=["plain", "of another kind"])
    def test_what_is_to_be_done_meanwhile_is_done(self, broker, options):
        done = []

        assert broker.push([a_task(number, **options) for number in range(3)], lambda: done.append(True)) == [True] * 3
        assert done

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

    @pytest.mark.parametrize(
        "argument", ["x" * (wire.MAX_BYTES + 1), object(), "\ud800"], ids=["too large", "not JSON", "no text"]
    )
    async def test_an_impossible_argument_is_nothing_to_the_pushes_of_the_same_turn(self, broker, argument):
        pushes = [broker.apush(some) for some in (tasks(2), [a_task(), a_task(argument)], [a_task(argument)], tasks(1))]

        two, *impossible, one = await asyncio.gather(*pushes, return_exceptions=True)

        assert (two, one) == ([True, True], [True])
        assert all(isinstance(error, TypeError | PayloadTooLarge) for error in impossible)
        assert await aside(broker.depth, "mail") == Depth(waiting=3, delayed=0, running=0)
        assert await broker.apush(tasks(1)) == [True]
