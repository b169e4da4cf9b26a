"""Nobody reads what the worker writes."""

import signal
import sys

import pytest

from tests.workapp import tasks

UNREAD = """
import fcntl, os, sys
read, write = os.pipe()
fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
os.set_inheritable(read, True)  # somebody holds it, as a stopped reader does
os.dup2(write, 1)
os.dup2(write, 2)
os.execv(sys.executable, [sys.executable, "-m", "django", "runworker", *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sets the size of a pipe")
def test_tasks_run_and_the_worker_ends_although_its_log_is_blocked(stage):
    stage.enqueue_many([(task, (f"{task.name}{n}",), {}) for n in range(300) for task in (tasks.note, tasks.anote)])
    worker = stage.start("--processes", "2", command=("-c", UNREAD))

    stage.until_empty()
    tasks.note.enqueue("after")
    stage.ledger.wait_for("after")
    stage.until_empty()
    assert stage.ledger.counts().total() == 601
    worker.send(signal.SIGTERM)
    assert worker.exit_code(10) == 0
