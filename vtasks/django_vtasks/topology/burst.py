"""When a burst is over: every actor was idle, and then each found nothing twice more."""

from collections.abc import Collection

from django_vtasks.topology.queue_actor import Idle

TWICE = 2
"""Once does not tell: that claim may have been under way before the last task enqueued another."""


class BurstWatch:
    """Collects what the actors of a burst say."""

    def __init__(self) -> None:
        self._said: dict[str, Idle] = {}
        self._quiet: dict[str, Idle] = {}

    def note(self, name: str, report: Idle) -> None:
        """Take in what an actor says."""
        self._said[name] = report

    def forget(self, name: str) -> None:
        """Forget an actor that is gone; the next one of the name speaks for itself."""
        self._said.pop(name, None)
        self._quiet = {}

    def is_over(self, names: Collection[str]) -> bool:
        """Tell whether none of these actors has anything to do."""
        said = {name: self._said[name] for name in names if name in self._said}
        if len(said) < len(names) or not all(report.rounds for report in said.values()):
            self._quiet = {}
            return False
        if self._quiet.keys() != said.keys() or any(
            said[name].taken != before.taken for name, before in self._quiet.items()
        ):
            self._quiet = said
            return False
        return all(said[name].rounds >= before.rounds + TWICE for name, before in self._quiet.items())
