"""Lines of results: one JSON object for each measurement, with all that is needed to judge it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(kw_only=True)
class Line:
    """One measurement, or why there is none."""

    scenario: str
    contender: str
    backend: str
    run: str = ""
    """When the benchmark was begun: only repetitions of one run are compared."""
    repetition: int = 0
    durable: bool = False
    figures: dict[str, float | None] = field(default_factory=dict)
    """None: it never happened."""
    count: int = 0
    missing: int | None = None
    doubled: int | None = None
    worker_ms: float | None = None
    server_ms: float | None = None
    foreign: float | None = None
    """Cores that were used meanwhile by whoever is not measured."""
    pss: float | None = None
    processes: int | None = None
    connections: int | None = None
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

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a line; what other versions have written besides is ignored."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{name: value for name, value in values.items() if name in cls.__dataclass_fields__})

    def to_json(self) -> str:
        """Write a line, without what says nothing."""
        return json.dumps({name: value for name, value in asdict(self).items() if value not in (None, {})})


def append(path: Path, line: Line) -> None:
    """Add a line to a file."""
    with path.open("a") as file:
        file.write(line.to_json() + "\n")


def read(paths: Iterable[Path]) -> list[Line]:
    """Return the lines of files."""
    return [Line.from_json(text) for path in paths for text in path.read_text().splitlines() if text]
