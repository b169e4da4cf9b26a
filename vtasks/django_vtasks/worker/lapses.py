"""Which nodes have vanished, rather than been kept from renewing by what kept everybody from it."""

from collections.abc import Collection


class Lapses:
    """Since when the leases of other nodes have run out, by looks in a row; ``patience`` is in seconds.

    After an outage of the store all leases have run out. Each node then has ``patience`` to renew, counted from the
    first look that succeeds.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: dict[str, float] = {}

    def vanished(self, lapsed: Collection[str], now: float) -> set[str]:
        """Note a look that found nodes ``lapsed``; return those that each look did since one ``patience`` ago."""
        self._since = {node: self._since.get(node, now) for node in lapsed}
        return {node for node, since in self._since.items() if now - since >= self._patience}

    def forget(self) -> None:
        """Note a look that failed, so that the others may have failed to renew as well."""
        self._since.clear()
