"""An outage of the store that outlasts the leases: no live worker takes another's tasks."""

import sqlite3
import time

import pytest
from django.conf import settings as djangos_settings  # noqa: TID251  # the path of the file

from tests.integration.probes import eventually
from tests.workapp import tasks

LEASE = 1.5
WORKERS = ("alpha", "beta", "gamma")


@pytest.fixture
def long_writer(stage):
    stage.environment |= {"TEST_SQLITE_TIMEOUT": "0.3", "VTASKS_LEASE": str(LEASE)}
    connection = sqlite3.connect(djangos_settings.DATABASES["default"]["NAME"], isolation_level=None)
    yield connection
    connection.close()


def test_after_an_outage_longer_than_the_lease_live_workers_do_not_take_each_others_tasks(stage, long_writer):
    workers = []
    for name in WORKERS:
        tasks.ahold.enqueue(name)
        workers.append(stage.worker("--id", name, "--concurrency", "1"))
        stage.ledger.wait_for(name)
    long_writer.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + 2 * LEASE, "all leases have run out")
    long_writer.execute("ROLLBACK")
    back = time.monotonic()
    eventually(lambda: time.monotonic() > back + 2 * LEASE, "everybody has looked at the leases")
    stage.ledger.open(*WORKERS)

    stage.until_empty()
    assert {stage.ledger.counts()[name] for name in WORKERS} == {1}
    assert all("had run out" not in worker.log for worker in workers)
    assert stage.failed() == {}
