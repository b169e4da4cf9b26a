"""What a worker says of itself when it starts."""

import logging
from collections.abc import Iterator
from importlib.metadata import version

from django_vtasks.brokers.base import Broker, Coordinator
from django_vtasks.topology.plan import Plan, backend_with_broker

logger = logging.getLogger(__name__)

SUPERVISOR = 2
"""Connections of the supervisor: one for the lease, one for looking at the queues."""
COLUMNS = "{:<24} {:>9} {:>14}"


def lines(plan: Plan, most_connections: int | None) -> Iterator[str]:
    """Yield the start-up table; ``most_connections`` is what the database server allows, None when unlimited."""
    broker = backend_with_broker(plan.backend).broker
    yield f"django-vtasks {version('django-vtasks')} · backend {plan.backend} · node {plan.node}"
    yield COLUMNS.format("queue", "processes", "concurrency")
    for queue in plan.queues:
        how = queue.concurrency if queue.batch is None else f"batch of {queue.batch.count}"
        yield COLUMNS.format(queue.name, queue.processes, how)
    if (expected := expected_connections(plan, broker)) is not None:
        allowed = "" if most_connections is None else f" of {most_connections} that the server allows"
        yield f"database connections: up to {expected}{allowed}"


def most_connections(plan: Plan) -> int | None:
    """Ask the store how many connections its server allows; None when it has no limit, or does not answer."""
    coordinator: Coordinator = backend_with_broker(plan.backend).broker  # type: ignore[assignment]
    try:
        return coordinator.connection_limit()
    except Exception:
        logger.exception("Cannot ask for the server's limit of connections")
        return None


def expected_connections(plan: Plan, broker: Broker) -> int | None:
    """Return how many connections the worker opens at most; None for a store that is no database.

    One thread per running task may have one of its own, beside what each actor and the supervisor need; so may the one
    that stands for telling what is in the store, for the metrics.
    """
    own = broker.capabilities.connections
    if own is None:
        return None
    own_metrics = plan.metrics_port is not None
    return (
        SUPERVISOR
        + own_metrics
        + plan.scheduler
        + sum(queue.processes * (queue.concurrency + own) for queue in plan.queues)
    )


def too_many(plan: Plan, most_connections: int | None) -> str | None:
    """Return a warning when the server may run out of connections."""
    expected = expected_connections(plan, backend_with_broker(plan.backend).broker)
    if expected is None or most_connections is None or expected <= most_connections:
        return None
    return (
        f"This worker may open {expected} database connections, and the server allows {most_connections}: lower"
        " --processes or --concurrency, or pool connections"
    )
