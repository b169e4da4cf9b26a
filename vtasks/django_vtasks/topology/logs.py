"""The worker's own log handler, in the supervisor and in each actor process."""

import logging

LOGGERS = ("django_vtasks", "vtasks_supervisor")


def log_to_stderr(level: int) -> None:
    """Show the worker's log unless the project's LOGGING already does something with it."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logger.addHandler(handler)
            logger.setLevel(level)
