"""The test's view of the ledger that tasks write: which ran, how often, with what."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from tests.integration.probes import PATIENCE, eventually


class Ledger:
    """Files in a directory: ``key.1``, ``key.2``, … one for each run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def open(self, *gates: str) -> None:
        """Let the tasks go on that wait for these gates."""
        for gate in gates:
            (self.directory / f"{gate}-open").touch()

    def counts(self) -> Counter[str]:
        """Return how many entries each key has."""
        names = (path.name for path in self.directory.iterdir())
        return Counter(name.rpartition(".")[0] for name in names if not name.startswith(".") and "." in name)

    def read(self, key: str) -> list[dict[str, Any]]:
        """Return the entries of a key in their order."""
        found = sorted(self.directory.glob(f"{key}.*"), key=lambda path: int(path.suffix[1:]))
        return [json.loads(path.read_text()) for path in found]

    def wait_for(self, *keys: str, times: int = 1, within: float = PATIENCE) -> list[dict[str, Any]]:
        """Return the entries of the last key once each key has as many as ``times``."""
        for key in keys:
            eventually(partial(self._has, key, times), f"{times} × {key!r} in the ledger", within)
        return self.read(keys[-1])

    def _has(self, key: str, times: int) -> bool:
        return self.counts()[key] >= times
