"""Every series that this package has: name, kind, labels, and what it says."""

from typing import NamedTuple

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

RUNS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
CALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
DELAYS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of buckets, in seconds: of functions, of calls to the store, of what comes late."""


class Family(NamedTuple):
    """One series for each combination of its labels; a counter's name gets ``_total`` where it is shown."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


SUBMITTED = Family("vtasks_tasks_submitted", COUNTER, "Tasks enqueued.", ("task_name", "queue"))
PROCESSED = Family("vtasks_tasks_processed", COUNTER, "Tasks settled after a run.", ("task_name", "queue", "status"))
DURATION = Family(
    "vtasks_task_duration_seconds", HISTOGRAM, "Time that a task's function took.", ("task_name", "queue"), RUNS
)
ACTIVE = Family("vtasks_active_tasks", GAUGE, "Tasks that run.", ("queue",))
IN_FLIGHT = Family("vtasks_in_flight_tasks", GAUGE, "Tasks claimed and not settled yet.", ("queue",))
CLAIM = Family(
    "vtasks_claim_duration_seconds", HISTOGRAM, "Time of a claim for which tasks were waiting.", ("queue",), CALLS
)
SETTLE = Family("vtasks_settle_duration_seconds", HISTOGRAM, "Time of settling a group of tasks.", ("queue",), CALLS)
RESCUED = Family("vtasks_tasks_rescued", COUNTER, "Tasks taken back from actors or workers that died.", ("cause",))
GIVEN_UP = Family(
    "vtasks_tasks_given_up", COUNTER, "Tasks put on the failed list because actors died on them.", ("cause",)
)
RESTARTS = Family("vtasks_actor_restarts", COUNTER, "Actors that ended and were replaced.", ("actor", "cause"))
UP = Family("vtasks_actor_up", GAUGE, "Whether an actor is ready: 1 or 0.", ("actor",))
LAG = Family("vtasks_event_loop_lag_seconds", GAUGE, "Worst delay of an actor's loop in a minute.", ("actor",))
MEMORY = Family("vtasks_actor_memory_bytes", GAUGE, "Memory that a process shares with no other.", ("actor",))
LATENESS = Family(
    "vtasks_scheduler_lateness_seconds", HISTOGRAM, "Time from a slot to the enqueue of its task.", (), DELAYS
)
REPORTER = Family("vtasks_reporter", GAUGE, "Whether this worker tells of the store: 1 or 0.")
DEPTH = Family("vtasks_queue_depth", GAUGE, "Tasks waiting in the store, up to 10,000.", ("queue",))
DELAYED = Family("vtasks_queue_delayed_tasks", GAUGE, "Tasks waiting for their time, up to 10,000.", ("queue",))
OLDEST = Family("vtasks_queue_oldest_seconds", GAUGE, "For how long the oldest waiting task has been due.", ("queue",))
FAILED = Family("vtasks_failed_tasks", GAUGE, "Entries of the failed list.")
EVICTIONS = Family("vtasks_failed_evictions", COUNTER, "Entries ever dropped from a full failed list.")

CATALOGUE = (
    SUBMITTED, PROCESSED, DURATION, ACTIVE, IN_FLIGHT, CLAIM, SETTLE, RESCUED, GIVEN_UP, RESTARTS, UP, LAG, MEMORY,
    LATENESS, REPORTER, DEPTH, DELAYED, OLDEST, FAILED, EVICTIONS,
)  # fmt: skip
