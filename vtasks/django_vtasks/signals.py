"""Signals beside Django's ``task_enqueued``, ``task_started`` and ``task_finished``."""

from django.dispatch import Signal

task_refused = Signal()
"""A unique task was not enqueued because an equal one holds the lock; gets ``task``, ``args``, ``kwargs``."""

worker_started = Signal()
"""A worker takes tasks from now on; gets ``node`` and ``queues``."""

worker_stopped = Signal()
"""A worker has ended its work; gets ``node`` and ``queues``."""
