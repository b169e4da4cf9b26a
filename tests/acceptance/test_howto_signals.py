"""docs/howto/signals.md: its code runs as printed."""

import re
from pathlib import Path
from typing import Any

from django.tasks import TaskResultStatus
from django.tasks.signals import task_finished  # noqa: TID251 - a user's receiver

from django_vtasks.brokers.base import Claim, Owner
from django_vtasks.envelope import Envelope
from django_vtasks.observers import Observer, Run
from tests.app.tasks import add

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "signals.md"


async def test_a_receiver_as_printed_counts_what_has_ended():
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    envelope = Envelope(id="1", task=add.module_path, queue="default", args=[], kwargs={}, enqueued_at=1.0)

    try:
        await Observer(object).afinished([(Run(add, Claim(envelope, Owner("n", "a"), receipt=1), 1.0, 2.0), 3, None)])
    finally:
        task_finished.disconnect(names["count"])

    assert names["ended"] == {TaskResultStatus.SUCCESSFUL: 1}


def test_each_signal_that_there_is_stands_on_the_page():
    from django.dispatch import Signal

    from django_vtasks import signals

    named = set(re.findall(r"`((?:task|worker)_\w+)`", PAGE.read_text()))
    assert named >= {name for name, value in vars(signals).items() if isinstance(value, Signal)}
