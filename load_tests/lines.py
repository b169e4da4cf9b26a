"""Files to which each result is a line of JSON."""

from pathlib import Path


def append(path: Path, line: str) -> None:
    """Add a line to a file, and make its directory if there is none: what was measured for long shall not be lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"{line}\n")
