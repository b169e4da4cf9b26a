"""Nobody reads what the worker writes."""

import signal
import sys

import pytest

from tests.integration.workers import UNREAD
from tests.workapp import tasks


@pytest.mark.skipif(sys.platform != "linux", reason="sets the size of a pipe")
@pytest.mark.parametrize("logging", ["", "yes"], ids=["our logging", "the project's logging"])
def test_tasks_run_and_the_worker_ends_although_its_log_is_blocked(stage, logging):
    stage.environment["TEST_LOGGING"] = logging
    stage.enqueue_many([(task, (f"{task.name}{n}",), {}) for n in range(300) for task in (tasks.note, tasks.anote)])
    worker = stage.start("--processes", "2", command=("-c", UNREAD))

    stage.until_empty()
    tasks.note.enqueue("after")
    stage.ledger.wait_for("after")
    stage.until_empty()
    assert stage.ledger.counts().total() == 601
    worker.send(signal.SIGTERM)
    assert worker.exit_code(10) == 0
