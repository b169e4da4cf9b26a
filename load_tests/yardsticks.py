"""What a plain benchmark of a server's own makes on this machine now.

These machines differ, and change, in speed: a figure means little without it. MariaDB and SQLite have none.
"""

import re
import tempfile
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from load_tests.programs import output


def of(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return that of the server which has the tasks, by Django's settings."""
    if url := settings["TASKS"]["default"].get("OPTIONS", {}).get("BROKER_URL"):
        return of_valkey(url)
    entry = settings["DATABASES"]["default"]
    return of_postgres(entry["HOST"]) if entry["ENGINE"].endswith("postgresql") else {}


def of_valkey(url: str) -> dict[str, float]:
    """Return how many elements it pushes in a second, 50 commands at a time."""
    port = str(urlsplit(url).port)
    said = output("valkey-benchmark", "-p", port, "-P", "50", "-n", "500000", "-t", "lpush", "--csv")
    return {"lpush/s": float(said.splitlines()[-1].split(",")[1].strip('"'))} if said else {}


def of_postgres(host: str) -> dict[str, float]:
    """Return how many statements that do nothing it runs in a second, one after the other."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("SELECT 1;\n")
        script.flush()
        said = output("pgbench", "-h", host, "-U", "vtasks", "-n", "-f", script.name, "-T", "2", "postgres")
    found = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    return {"selects/s": float(found[1])} if found else {}
