"""Two receivers of each signal that tells of a run, as a project may have; all they do is to count."""

import os
from collections import Counter

from django.tasks import signals as of_django  # noqa: TID251 - receives and sends none

from django_vtasks import signals

seen = Counter()


def connect():
    kind = os.environ.get("BENCH_RECEIVERS")
    for name in ("task_started", "task_finished") if kind else ():
        signal = getattr(signals, name, None) or getattr(of_django, name)  # 3.2.0 sends its own, not those of Django
        for number in (1, 2):
            signal.connect(_KINDS[kind], dispatch_uid=f"receiver {number}")


def _plain(sender, signal, **kwargs):
    seen[signal] += 1


async def _awaited(sender, signal, **kwargs):
    seen[signal] += 1


_KINDS = {"plain": _plain, "awaited": _awaited}
