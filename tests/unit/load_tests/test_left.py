"""What the baseline leaves to a sweep is put back, so that it would be seen to run again. It is not installed here."""

import runpy
from collections import defaultdict
from types import SimpleNamespace

from load_tests.bench import environment

give_back = runpy.run_path(str(environment.INSIDE / "on_vtasks" / "left.py"))["give_back"]


class Driver:
    """As much of its client as is called, on lists in memory."""

    def __init__(self):
        self.lists = defaultdict(list)

    async def scan_all(self, pattern):
        return [key for key in self.lists if key.startswith(pattern.rstrip("*"))]

    async def rpop(self, key):
        return self.lists[key].pop() if self.lists[key] else None

    async def lpush(self, key, values):
        self.lists[key][:0] = values


async def test_what_workers_have_left_in_valkey_is_in_the_queue_again():
    driver = Driver()
    driver.lists |= {"vt:processing:host-1": [b"2", b"1"], "vt:processing:host-2": [b"3"], "vt:q:failed": [b"4"]}
    await give_back(SimpleNamespace(driver=driver, _get_key=lambda name: f"vt:{name}"), "batches")
    assert {key: tasks for key, tasks in driver.lists.items() if tasks} == {
        "vt:q:batches": [b"3", b"2", b"1"],
        "vt:q:failed": [b"4"],
    }


async def test_what_workers_have_left_in_a_database_is_in_the_queue_again(monkeypatch):
    from django_vtasks.db import models

    done = []

    class Tasks:
        def filter(self, **which):
            done.append(which)
            return self

        async def aupdate(self, **values):
            done.append(values)

    status = SimpleNamespace(QUEUED="QUEUED", PROCESSING="PROCESSING")
    monkeypatch.setattr(models, "QueuedTask", SimpleNamespace(objects=Tasks()), raising=False)
    monkeypatch.setattr(models, "TaskStatus", status, raising=False)
    await give_back(SimpleNamespace(_rescue_tasks=None), "default")
    assert done == [{"status": "PROCESSING"}, {"status": "QUEUED", "worker_id": None}]


async def test_workers_of_this_package_give_back_themselves_what_they_hold():
    await give_back(SimpleNamespace(), "default")
