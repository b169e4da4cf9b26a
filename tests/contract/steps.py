"""What the behaviours do with a store, again and again."""

import asyncio
from dataclasses import replace as replaced

import pytest

from django_vtasks.brokers.base import Ack, Claim, Death, Owner, Reclaimed
from django_vtasks.envelope import Envelope
from tests.contract.backdoor import Backdoor, Store
from tests.contract.given import ALICE, ENDINGS
from tests.contract.threads import aside

SOON = 20.0
"""Seconds within which all that needs no waiting has happened, on a busy machine too."""
AT_ONCE = 3.0
"""Seconds within which an idle claim wakes; fewer than those between the looks of any fallback."""

every_ending = pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)


async def take(
    broker: Store, limit: int = 1000, *, owner: Owner = ALICE, queue: str = "mail", suspects: bool = False
) -> list[Claim]:
    return await broker.claim(owner, queue, limit, suspects=suspects)


async def take_one(broker: Store, *, owner: Owner = ALICE, suspects: bool = False) -> Claim:
    [claim] = await take(broker, 1, owner=owner, suspects=suspects)
    return claim


async def drain(broker: Store, owner: Owner, *, suspects: bool = False) -> list[str]:
    """Claim and acknowledge, a few at a time, until nothing is left; return the ids."""
    done = []
    while claims := await take(broker, 7, owner=owner, suspects=suspects):
        assert all(await broker.settle(owner, [Ack(claim) for claim in claims]))
        done += ids(claims)
    await broker.aclose()
    return done


async def crash(broker: Store, owner: Owner = ALICE, *, running: list[Claim] | None = None) -> Reclaimed:
    """Let an owner die while ``running`` ran, or nobody knows which."""
    known = None if running is None else frozenset(ids(running))
    return await aside(broker.reclaim, owner, Death("killed by SIGKILL", known))


async def suspect(broker: Store, sent: list[Envelope], crashes: int = 1) -> None:
    """Push tasks to one queue and let their owner die on them so often."""
    victim = replaced(ALICE, slot="victim")
    await broker.apush(sent)
    for round_ in range(crashes):
        claims = await take(broker, owner=victim, queue=sent[0].queue, suspects=round_ > 0)
        mine = [claim for claim in claims if claim.envelope.id in ids_of(sent)]
        assert (await crash(broker, victim, running=mine)).buried == []


def ids(claims: list[Claim]) -> list[str]:
    return [claim.envelope.id for claim in claims]


def ids_of(envelopes: list[Envelope]) -> list[str]:
    return [envelope.id for envelope in envelopes]


async def idle_claim(broker: Store, owner: Owner = ALICE, *, suspects: bool = False) -> asyncio.Task[list[Claim]]:
    """Return a claim that has found nothing so far."""
    idle = asyncio.create_task(broker.claim(owner, "mail", 1, wait=60.0, suspects=suspects))
    await asyncio.wait({idle}, timeout=0.1)
    assert not idle.done()
    return idle


async def schedule(broker: Store, backdoor: Backdoor, *entries: str) -> None:
    """Register entries, which are due since long ago."""
    await aside(broker.register, dict.fromkeys(entries, "every minute"))
    for entry in entries:
        await aside(backdoor.backdate, entry)


async def picture(broker: Store) -> tuple[object, ...]:
    """Return all that the contract shows of a store."""
    return (
        await aside(broker.depth, "mail"),
        await aside(broker.queues),
        [(entry.id, entry.failure) for entry in await aside(broker.failed)],
    )
