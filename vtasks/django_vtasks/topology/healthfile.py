"""A file whose age says how long ago the worker was last well, for probes without HTTP."""

import contextlib
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)


class HealthFile:
    """Keeps a file fresh; a file system that refuses is logged once, until it works again."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        # Next to it, because only within a file system is a rename atomic.
        self._draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._refused = False

    def touch(self) -> None:
        """Write the present moment into the file, in one step: a reader never sees half of it, nor no file."""
        try:
            self._write(datetime.now(UTC).isoformat(timespec="seconds") + "\n")
        except OSError as error:
            self._complain(error)
        else:
            self._refused = False

    def remove(self) -> None:
        """Delete the file, also one that an earlier worker left behind."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._complain(error)

    def _write(self, text: str) -> None:
        try:
            self._draft.unlink(missing_ok=True)
            # "x" does not follow a link that somebody has put in a directory open to all, such as /tmp.
            with self._draft.open("x", encoding="ascii") as draft:
                draft.write(text)
            self._draft.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                self._draft.unlink(missing_ok=True)
            raise

    def _complain(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            logger.warning("The health file %s cannot be kept: %s", self._path, error.strerror)
