"""Programs that come with servers: their clients and benchmarks."""

import subprocess

from tests import servers

TIMEOUT = 60.0


def output(program: str, *arguments: str) -> str:
    """Return what a program says, nothing if it is not installed."""
    path = servers.find(program)
    if path is None:
        return ""
    done = subprocess.run([path, *arguments], check=True, capture_output=True, text=True, timeout=TIMEOUT)
    return done.stdout
