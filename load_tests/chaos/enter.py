"""``python -m load_tests.chaos.enter NAMESPACE HOSTNAME pid|- COMMAND…``: run Python on another host, as it seems."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


def main(namespace: str, hostname: str, pids: str, *command: str) -> None:
    """Enter the namespaces and become the command; with ``pid``, in a numbering of processes of its own."""
    descriptor = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    os.setns(descriptor, os.CLONE_NEWNET)
    os.close(descriptor)
    os.unshare(os.CLONE_NEWUTS)
    socket.sethostname(hostname)
    if pids == "pid":
        os.unshare(os.CLONE_NEWPID | os.CLONE_NEWNS)
        if child := os.fork():
            signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        # What psutil reads must be of these processes, and nobody else's /proc.
        for mount in ("--make-rprivate", "/"), ("-t", "proc", "proc", "/proc"):
            subprocess.run(("mount", *mount), check=True, timeout=30.0)  # noqa: S607 - wherever it is
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - no shell


if __name__ == "__main__":
    main(*sys.argv[1:])
