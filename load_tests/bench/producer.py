"""The process that enqueues in a contender, seen from here."""

import json
import subprocess
from pathlib import Path
from typing import Any, Self


class ProducerError(Exception):
    """It has ended early; the message has its last words."""


class Producer:
    """``inside/produce.py`` in a contender's environment."""

    def __init__(self, python: Path, environ: dict[str, str], directory: Path) -> None:
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
        self._popen.stdin.close()
        try:
            self._popen.wait(10.0)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Let it do something, and return what it says of it."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        try:
            self._popen.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise ProducerError(self._last_words()) from None
        if not (line := self._popen.stdout.readline()):
            raise ProducerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
