"""What a process is given for its way."""

import socket
from collections.abc import Callable
from typing import NamedTuple

from vtasks_supervisor.recorder import Recorder


class Luggage(NamedTuple):
    """Travels by multiprocessing's own pickling: sockets and the recorder become descriptors of the new process."""

    recipe: bytes
    """What makes the actor; see codec."""
    setup: Callable[[], object] | None
    name: str
    incarnation: int
    title: str
    environ: dict[str, str]
    stop_timeout: float
    liveness_timeout: float
    control: socket.socket
    stacks: socket.socket
    """Where the process writes its stacks when it hangs."""
    recorder: Recorder | None
