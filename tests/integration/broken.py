"""A backend whose store breaks a promise, by its option WAY."""

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import override

from django.db import connections

from django_vtasks.backends.db import DatabaseTaskBackend
from django_vtasks.brokers.base import Ack, Claim, Owner, Release, Settlement, nothing
from django_vtasks.brokers.database import DatabaseBroker
from django_vtasks.envelope import Envelope
from django_vtasks.errors import BrokerUnavailable

NTH = 20


class Honest(DatabaseBroker):
    """Break none, and count the times at which the others do."""

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self._count = itertools.count(1)

    def is_time(self) -> bool:
        return next(self._count) % NTH == 0


class Loses(Honest):
    """Settle what was only claimed."""

    @override
    async def claim(
        self, owner: Owner, queue: str, limit: int, *, wait: float = 0.0, suspects: bool = False
    ) -> list[Claim]:
        claims = await super().claim(owner, queue, limit, wait=wait, suspects=suspects)
        lost = [claim for claim in claims if self.is_time()]
        await super().settle(owner, [Ack(claim) for claim in lost])
        return [claim for claim in claims if claim not in lost]


class RunsTwice(Honest):
    """Give back what has ended, and say that it was settled."""

    @override
    async def settle(self, owner: Owner, settlements: Sequence[Settlement]) -> list[bool]:
        return await super().settle(
            owner, [Release(s.claim) if isinstance(s, Ack) and self.is_time() else s for s in settlements]
        )


class RunsTwiceInSilence(RunsTwice):
    """Refuse the second end, so that nothing is settled twice."""

    def __init__(self, using: str) -> None:
        super().__init__(using)
        Path(self._told).mkdir(exist_ok=True)

    @override
    async def settle(self, owner: Owner, settlements: Sequence[Settlement]) -> list[bool]:
        accepted = await super().settle(owner, settlements)
        return [ours and self._is_first(s) for ours, s in zip(accepted, settlements, strict=True)]

    def _is_first(self, settlement: Settlement) -> bool:
        """Tell whether no process has settled the task before."""
        try:
            (Path(self._told) / settlement.claim.envelope.id).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    @property
    def _told(self) -> str:
        return f"{connections[self._using].settings_dict['NAME']}-told"


class TellsNobody(Honest):
    """Say of what was settled that it was not."""

    @override
    async def settle(self, owner: Owner, settlements: Sequence[Settlement]) -> list[bool]:
        return [ours and not self.is_time() for ours in await super().settle(owner, settlements)]


class KeepsLease(Honest):
    """Keep the lease of who leaves."""

    @override
    def leave(self, node: str) -> None:
        pass


class Refuses(Honest):
    """Refuse what it could take."""

    @override
    def push(self, envelopes: Sequence[Envelope], meanwhile: Callable[[], object] = nothing) -> list[bool]:
        if self.is_time():
            raise BrokerUnavailable("Not now.")
        return super().push(envelopes, meanwhile)


KINDS = Honest, Loses, RunsTwice, RunsTwiceInSilence, TellsNobody, KeepsLease, Refuses
WAYS = {kind.__name__: kind for kind in KINDS}


@cache
def _broker(way: str, using: str) -> DatabaseBroker:
    return WAYS[way](using)


class Backend(DatabaseTaskBackend):
    valid_options = frozenset({"DATABASE", "WAY"})

    @property
    @override
    def broker(self) -> DatabaseBroker:
        return _broker(self.options["WAY"], self.database)
