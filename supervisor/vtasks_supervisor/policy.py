"""When a child is started again: pure arithmetic, with time and chance as arguments."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum


class Restart(Enum):
    """Which ends of a child are answered by another start."""

    PERMANENT = "always"
    TRANSIENT = "after a failure"
    TEMPORARY = "never"

    def wants(self, *, normal: bool) -> bool:
        """Tell whether a child that has ended, normally or not, shall run again."""
        return self is Restart.PERMANENT or (self is Restart.TRANSIENT and not normal)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between failures and starts: the first restart is immediate, later ones wait twice as long each.

    Health of ``forgiven_after`` seconds makes the next failure the first again.
    """

    first: float = 0.1
    longest: float = 30.0
    forgiven_after: float = 60.0

    def delay(self, failures: int, chance: float) -> float:
        """Return the delay after so many failures in a row; ``chance`` in 0..1 spreads it over its upper half."""
        if failures <= 1:
            return 0.0
        # Beyond 60 doublings the exponent is of no interest, and soon no float.
        delay = min(self.longest, self.first * 2.0 ** min(failures - 2, 60))
        return delay / 2 + delay / 2 * chance


@dataclass(frozen=True, slots=True)
class RestartBudget:
    """How many failures within ``window`` seconds a place may have before it counts as degraded."""

    limit: int = 5
    window: float = 60.0

    def recent(self, failures: Iterable[float], now: float) -> tuple[float, ...]:
        """Return those failures that still count."""
        return tuple(moment for moment in failures if moment > now - self.window)

    def is_spent(self, failures: Iterable[float], now: float) -> bool:
        """Tell whether there were more failures than the limit within the window."""
        return len(self.recent(failures, now)) > self.limit


@dataclass(frozen=True, slots=True)
class History:
    """What one place in the tree has been through; times are monotonic seconds."""

    failures: int = 0
    """In a row, without health in between."""
    recent: tuple[float, ...] = ()
    ready_since: float | None = None
    ever_ready: bool = False
    degraded_since: float | None = None

    def ready(self, now: float) -> "History":
        """Return the history after a child became ready."""
        return replace(self, ready_since=now, ever_ready=True)

    def ended(self) -> "History":
        """Return the history after a child ended as planned."""
        return replace(self, ready_since=None)

    def failed(self, now: float, policy: "Policy", *, worked: bool = False) -> "History":
        """Return the history after a child failed.

        One that has ``worked`` was no failed start: pauses would only leave its work undone, whatever killed it.
        """
        if worked:
            return replace(self, failures=1, ready_since=None, degraded_since=None)
        healthy = self.is_healthy(now, policy)
        recent = (*policy.budget.recent(self.recent, now), now)
        # Only health ends it: with the longest pauses, a place fails too seldom to spend a budget again.
        degraded_since = self.degraded_since
        if degraded_since is None and policy.budget.is_spent(recent, now):
            degraded_since = now
        return replace(
            self,
            failures=1 if healthy else self.failures + 1,
            recent=recent,
            ready_since=None,
            degraded_since=degraded_since,
        )

    def refreshed(self, now: float, policy: "Policy") -> "History":
        """Return the history as time goes by: what is healthy, and has a budget again, is no longer degraded."""
        if self.degraded_since is None or not self.is_healthy(now, policy) or policy.budget.is_spent(self.recent, now):
            return self
        return replace(self, degraded_since=None)

    def is_healthy(self, now: float, policy: "Policy") -> bool:
        """Tell whether a child has run for so long that what was before is forgiven."""
        return self.ready_since is not None and now - self.ready_since >= policy.backoff.forgiven_after


@dataclass(frozen=True, slots=True)
class Escalation:
    """When the whole tree gives up: a bad deployment fails fast, a lame one in the end."""

    starts: int = 3
    """Failed starts of each place, when none was ever ready."""
    patience: float = 300.0
    """Seconds for which every place has been degraded."""

    def verdict(self, histories: Iterable[History], now: float) -> str | None:
        """Return why the tree must give up, or None."""
        places = list(histories)
        if not places:
            return None
        if not any(place.ever_ready for place in places) and all(place.failures >= self.starts for place in places):
            return f"none of {len(places)} children became ready in {self.starts} attempts"
        since = [place.degraded_since for place in places]
        if all(moment is not None and now - moment >= self.patience for moment in since):
            return f"all {len(places)} children kept failing for {self.patience:g} s"
        return None


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it, for one tree."""

    backoff: Backoff = Backoff()
    budget: RestartBudget = RestartBudget()
    escalation: Escalation = Escalation()
