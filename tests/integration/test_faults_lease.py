"""An outage of the store that outlasts the leases: no live worker takes another's tasks."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
import valkey
from django.conf import settings as djangos_settings  # noqa: TID251  # the path of the file

from tests.integration.probes import eventually
from tests.workapp import tasks

LEASE = 1.5
WORKERS = ("alpha", "beta", "gamma")


@contextmanager
def long_writer() -> Iterator[None]:
    connection = sqlite3.connect(djangos_settings.DATABASES["default"]["NAME"], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


@contextmanager
def frozen_server(url: str) -> Iterator[None]:
    with valkey.Valkey.from_url(url) as client:
        server = psutil.Process(client.info("server")["process_id"])
    server.suspend()
    try:
        yield
    finally:
        server.resume()


@pytest.fixture
def outage(alias, stage, request):
    """Give a context in which the store does nothing for anybody."""
    stage.environment |= {"TEST_SQLITE_TIMEOUT": "0.3", "VTASKS_LEASE": str(LEASE)}
    return frozen_server(request.getfixturevalue("valkey_url")) if alias == "valkey" else long_writer()


@pytest.mark.parametrize("alias", ["default", "valkey"], indirect=True, ids=["sqlite", "valkey"])
def test_after_an_outage_longer_than_the_lease_live_workers_do_not_take_each_others_tasks(stage, outage):
    workers = []
    for name in WORKERS:
        tasks.ahold.enqueue(name)
        workers.append(stage.worker("--id", name, "--concurrency", "1"))
        stage.ledger.wait_for(name)
    with outage:
        began = time.monotonic()
        eventually(lambda: time.monotonic() > began + 2 * LEASE, "all leases have run out")
    back = time.monotonic()
    eventually(lambda: time.monotonic() > back + 2 * LEASE, "everybody has looked at the leases")
    stage.ledger.open(*WORKERS)

    stage.until_empty()
    assert {stage.ledger.counts()[name] for name in WORKERS} == {1}
    assert all("had run out" not in worker.log for worker in workers)
    assert stage.failed() == {}
