"""Results that the docs quote, in the repository: as lines in which nothing stands that several have in common."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from load_tests.bench.results import COMMON, Line, last_line

DIRECTORY = "load_tests/results"
DIGITS = 6
SHARED = "run", "commit", "seed", "machine", "durable", "share", "contender", "versions", "backend", "server"


def write(path: Path, lines: Iterable[Line]) -> None:
    """Write lines; what they share stands once, before them."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        values = json.loads(line.to_json(), parse_float=_rounded)
        if "error" in values:
            values["error"] = last_line(values["error"])
        shared = {name: values.pop(name) for name in SHARED if name in values}
        groups[json.dumps({COMMON: shared})].append(values)
    texts = [text for head, some in groups.items() for text in (head, *map(json.dumps, some))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in texts))


def _rounded(text: str) -> float:
    return float(f"{float(text):.{DIGITS}g}")
