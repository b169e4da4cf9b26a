"""What a run under faults finds when all its workers have ended: on real servers, with what was left on purpose."""

import signal
from contextlib import closing

import pytest

from load_tests.chaos import leftovers
from load_tests.chaos.ground import Ground
from load_tests.chaos.grounds import GROUNDS, ValkeyGround, ground
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Scenario
from tests.integration.probes import eventually
from tests.integration.workers import WorkerProcess

SLEEP = ("-c", "import time; print('here', flush=True); time.sleep(60)")


def run_of(store, directory):
    scenario = Scenario(name="any", faults=(), sentence="Any.", inject=lambda _run: None, bites=())
    return Run(scenario, store, directory, seed=7, seconds=1.0)


def client_of(store):
    """Connect to a server as a worker would."""
    settings = store.settings()["DATABASES"]["default"]
    if store.kind == "postgres":
        import psycopg

        return psycopg.connect(host=settings["HOST"], user="vtasks", dbname="postgres")
    if store.kind == "mariadb":
        import MySQLdb

        return MySQLdb.connect(unix_socket=settings["HOST"], user="root")
    import valkey

    client = valkey.Valkey.from_url(store.url)
    client.ping()
    return client


@pytest.mark.parametrize("kind", ["postgres", "mariadb", "valkey"])
def test_a_connection_that_is_left_is_counted(kind):
    with ground(GROUNDS[kind]) as store:
        assert store.connections() == 0
        with closing(client_of(store)):
            assert store.connections() == 1
        eventually(lambda: store.connections() == 0, "the server has noticed its end")


def test_keys_that_are_left_are_named_but_those_that_stay(tmp_path):
    with ground(GROUNDS["valkey"]) as store:
        assert isinstance(store, ValkeyGround)
        run = run_of(store, tmp_path)
        with store.client() as client:
            client.sadd("{vt}:queues", "default")
            client.hset("{vt}:leader:scheduler", "node", "w1")
            assert list(leftovers.places(run)) == []
            client.hset("{vt}:nodes", "w1", 1)
            client.sadd("{vt}:paused", "default")
            client.set("elsewhere", 1)

        assert sorted(leftovers.places(run)) == ["elsewhere", "{vt}:nodes", "{vt}:paused"]


def test_what_a_killed_worker_has_left_to_others_is_its_lease_only(tmp_path):
    with ground(GROUNDS["valkey"]) as store:
        assert isinstance(store, ValkeyGround)
        run = run_of(store, tmp_path)
        worker = WorkerProcess(tmp_path / "log", environment={}, command=SLEEP)
        run.workers.append(worker)
        run.kill_worker(worker)
        with store.client() as client:
            client.hset("{vt}:nodes", "w1", 1)
            client.hset("{vt}:flight:w1:default#1:1:default", "1", "task")

        assert sorted(leftovers.places(run)) == ["{vt}:flight:w1:default#1:1:default"]


def test_processes_of_a_worker_that_are_left_are_a_problem(tmp_path):
    run = run_of(Ground(tmp_path), tmp_path)
    worker = WorkerProcess(tmp_path / "log", environment={}, command=SLEEP)
    worker.until_it_says("here")
    run.workers.append(worker)
    try:
        leftovers.look_for_processes(run, patience=0.1)
        [problem] = run.problems
        assert problem.startswith("processes are left: ")
        assert f"pid={worker.process.pid}" in problem
    finally:
        worker.send(signal.SIGKILL)
        worker.exit_code()


def test_a_worker_that_was_told_to_end_is_not_excused_for_its_lease(tmp_path):
    run = run_of(Ground(tmp_path), tmp_path)
    told, killed = (WorkerProcess(tmp_path / "log", environment={}, command=SLEEP) for _ in range(2))
    told.until_it_says("here", times=2)
    run.workers += [told, killed]
    run.kill_worker(killed)
    told.send(signal.SIGKILL)
    told.exit_code()
    run.told.add(told)

    nodes = [f"w1-{told.process.pid}-abc", f"w2-{killed.process.pid}-def"]
    assert leftovers.leases(run, nodes) == nodes[:1]
    assert run.ending == {told, killed}
