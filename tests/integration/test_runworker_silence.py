"""Nobody reads what the worker writes, or no disk takes it in."""

import signal
import sys

import pytest

from tests.integration.workers import TO_FULL_DISK, UNREAD
from tests.workapp import tasks


@pytest.mark.skipif(sys.platform != "linux", reason="sets the size of a pipe")
@pytest.mark.parametrize("logging", ["", "yes"], ids=["our logging", "the project's logging"])
@pytest.mark.parametrize("output", [UNREAD, TO_FULL_DISK], ids=["blocked", "on a full disk"])
def test_tasks_run_and_the_worker_ends_whatever_becomes_of_its_log(stage, output, logging):
    stage.environment |= {"TEST_LOGGING": logging, "PYTHONUNBUFFERED": ""}
    stage.enqueue_many([(task, (f"{task.name}{n}",), {}) for n in range(300) for task in (tasks.note, tasks.anote)])
    worker = stage.start("--processes", "2", command=("-c", output))

    stage.until_empty()
    tasks.note.enqueue("after")
    stage.ledger.wait_for("after")
    stage.until_empty()
    assert stage.ledger.counts().total() == 601
    worker.send(signal.SIGTERM)
    assert worker.exit_code(10) == 0
