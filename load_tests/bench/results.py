"""Lines of results: one JSON object for each measurement, with all that is needed to judge it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

OWN = "own-"
"""What the names of this package's own scenarios begin with: some are called like those of all contenders."""
COMMON = "common"
"""The name of what all following lines of a file have in common, on a line of its own."""


class BadLineError(Exception):
    """A line of a file is no result; the message says which."""


@dataclass(kw_only=True)
class Line:
    """One measurement, or why there is none."""

    scenario: str
    contender: str
    backend: str
    run: str = ""
    """When the benchmark was begun: only repetitions of one run are compared."""
    repetition: int | None = None
    """None: the contender has no part in any, or could not be made ready for them."""
    durable: bool = False
    share: float = 1.0
    """What part of the usual size it had."""
    figures: dict[str, float | None] = field(default_factory=dict)
    """None: it never happened."""
    count: int = 0
    missing: int | None = None
    """None where doubled ones were counted: unknown, see ``is_cut_short``."""
    doubled: int | None = None
    worker_ms: float | None = None
    server_ms: float | None = None
    foreign: float | None = None
    """Cores that were used meanwhile by whoever is not measured."""
    pss: float | None = None
    processes: int | None = None
    connections: int | None = None
    seconds: float | None = None
    """How long all of it took: to fill, to start, to measure, to end."""
    server: str = ""
    yardstick: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    seed: int = 0
    machine: dict[str, str | int] = field(default_factory=dict)
    time: str = ""
    skipped: str | None = None
    """Why the contender has no part in the scenario."""
    error: str | None = None
    """Why the measurement failed."""

    @property
    def is_valid(self) -> bool:
        """Tell whether it was measured and each task ran exactly once."""
        return self.skipped is None and self.error is None and not self.missing and not self.doubled

    @property
    def inexactness(self) -> str:
        """Return how many tasks did not run exactly once."""
        missing = "unknown how many" if self.missing is None else f"{self.missing} tasks"
        return f"{missing} missing, {self.doubled} doubled"

    @property
    def is_cut_short(self) -> bool:
        """Tell whether the time was too short for all tasks to run, so that nobody knows whether some are missing."""
        return self.is_valid and self.missing is None and self.doubled is not None

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """Make a line of JSON's values; what other versions have written besides is ignored."""
        return cls(**{name: value for name, value in values.items() if name in cls.__dataclass_fields__})

    def to_json(self) -> str:
        """Write a line, without what says nothing."""
        return json.dumps({name: value for name, value in asdict(self).items() if value not in (None, {})})


def last_line(error: str) -> str:
    """Return what a report says of an error; above it stand paths of whoever measured."""
    return "".join(error.splitlines()[-1:])


def read(paths: Iterable[Path]) -> list[Line]:
    """Return the lines of files."""
    return [line for path in paths for line in _read(path)]


def _read(path: Path) -> Iterator[Line]:
    common: dict[str, Any] = {}
    for number, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if not text:
            continue
        try:
            values = json.loads(text)
            if COMMON in values:
                common = values[COMMON]
            else:
                yield Line.from_values(common | values)
        except (ValueError, TypeError) as error:
            raise BadLineError(f"{path}, line {number}, is no result: {error}") from None
