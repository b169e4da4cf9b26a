"""The process that enqueues in a contender, seen from here."""

import json
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

STOP_TIMEOUT = 10.0
PATIENCE = 120.0
"""Seconds for an answer, beyond those that were asked for."""


class ProducerError(Exception):
    """It has ended early, or does not answer; the message has its last words."""


class Producer:
    """``inside/produce.py`` in a contender's environment."""

    def __init__(self, python: Path, environ: dict[str, str], directory: Path, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._log = directory / "producer.log"
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                [str(python), "-m", "produce"],
                env=environ,
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        with suppress(BrokenPipeError):
            self._popen.stdin.close()
        try:
            self._popen.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait(STOP_TIMEOUT)
        self._popen.stdout.close()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Let it do something, and return what it says of it; kill it when it does not answer in time."""
        within = self._patience + arguments.get("seconds", 0.0)
        guard = threading.Timer(within, self._popen.kill)
        guard.start()
        try:
            line = self._said(json.dumps({"do": do, **arguments}))
        finally:
            guard.cancel()
        if not line:
            silent = f"No answer to {do} within {within:g} s.\n" if self._was_killed() else ""
            raise ProducerError(silent + self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _said(self, line: str) -> str:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        try:
            self._popen.stdin.write(line + "\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._popen.stdout.readline()

    def _was_killed(self) -> bool:
        return self._popen.wait(STOP_TIMEOUT) == -signal.SIGKILL

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
