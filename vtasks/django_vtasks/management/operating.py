"""What the commands of operators share: errors in one line, and a question before anything is deleted."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from django_vtasks.errors import BrokerUnavailable, ConfigError
from django_vtasks.operators.desk import NoSuchName


class OperatorCommand(BaseCommand):
    """A command whose bad input, or whose store that is not there, is one line and the exit code 1."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Operate."""
        try:
            self.operate(**options)
        except (NoSuchName, ConfigError, BrokerUnavailable, DatabaseError) as error:
            raise CommandError(" ".join(str(error).split()) or type(error).__name__) from error

    def operate(self, **options: Any) -> None:
        """Do what the options say."""
        raise NotImplementedError

    def confirm(self, question: str, *, force: bool) -> None:
        """Return when an operator agrees; raise CommandError when not, or nobody can be asked."""
        if force:
            return
        if sys.stdin is None or not sys.stdin.isatty():  # None where the process began with it closed
            raise CommandError(
                "Nobody can be asked here, as standard input is no terminal. --force deletes without asking."
            )
        if not _agreed(question):
            raise CommandError("Nothing was deleted.")


def _agreed(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C
        return False
