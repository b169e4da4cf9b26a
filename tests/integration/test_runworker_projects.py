"""Projects with something wrong: modules that cannot be imported, or that nobody should fork; and code that changes."""

import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.outages import backends
from tests.integration.pages import Pages
from tests.integration.probes import eventually
from tests.integration.projects import HEAD, SEND, Project, call
from tests.servers import free_port
from tests.workapp import tasks


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project", "tests.workapp")


class TestAModuleThatCannotBeImported:
    def test_it_is_named_and_its_tasks_wait_while_the_others_run(self, stage, project):
        module = project.app("shop", f"{SEND}\nimport no_such_module\n")
        port = free_port()
        waiting = call("shop.tasks.send", "sold")
        stage.broker.push([waiting])
        tasks.note.enqueue("other")
        worker = stage.worker("--health-port", str(port), **project.environment)
        pages = Pages(port)

        stage.ledger.wait_for("other")
        worker.until_it_says("Cannot import shop.tasks: its tasks wait until a worker can")
        assert worker.log_lines("ModuleNotFoundError: No module named 'no_such_module'")
        assert worker.log_lines(f'File "{module}"')
        report = pages.until("/health", 503)
        assert report["problems"] == ["shop.tasks cannot be imported: ModuleNotFoundError"], "the log alone says more"
        assert pages.status("/live") == 200
        assert pages.until("/ready", 200) == {"ready": True}
        eventually(lambda: stage.broker.depth("default").delayed == 1, "the task waits")
        eventually(lambda: len(stage.rows()) == 1, "the other has ended")
        assert stage.failed() == {}
        [row] = stage.rows()
        assert (row.task_id, row.crashes) == (waiting.id, 0)
        assert worker.is_running

    def test_a_worker_that_can_import_it_runs_them(self, stage, project):
        module = project.app("shop", "1 / 0")
        stage.broker.push([call("shop.tasks.send", "sold")])
        first = stage.worker(**project.environment)
        eventually(lambda: stage.broker.depth("default").delayed == 1, "the task waits")
        first.send(signal.SIGTERM)
        assert first.exit_code() == 0
        module.write_text(SEND)
        stage.broker.push([call("shop.tasks.send", "sold later")])
        stage.worker(**project.environment)

        stage.ledger.wait_for("sold later")
        assert stage.failed() == {}

    def test_when_no_module_can_be_imported_the_worker_gives_up(self, stage, tmp_path):
        project = Project(tmp_path / "broken")
        project.app("shop", "1 / 0")
        project.app("blog", "def (")
        stage.broker.push([call("shop.tasks.send", "sold")])
        worker = stage.start(**project.environment)

        assert worker.exit_code() == 1
        assert worker.log_lines(
            "No tasks module can be imported", "shop.tasks: ZeroDivisionError", "blog.tasks: SyntaxError"
        )
        assert worker.log_lines("The worker gives up")
        assert "takes tasks of" not in worker.log
        assert stage.broker.depth("default").waiting == 1
        eventually(lambda: not worker.processes(), "the end of all processes")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere everything is spawned")
class TestWhatShouldNotBeForked:
    def test_a_thread_of_an_import_is_named_and_the_actors_are_spawned(self, stage, project):
        ticker = "threading.Thread(target=until_open, args=('end',), name='ticker', daemon=True).start()"
        project.app("shop", f"{SEND}\nimport threading\n{ticker}\n")
        worker = stage.worker("--processes", "2", **project.environment)
        stage.broker.push([call("shop.tasks.send", "sold")])
        tasks.note.enqueue("other")

        stage.ledger.wait_for("sold", "other")
        worker.until_it_says("takes tasks of", times=2)
        [line] = worker.log_lines("WARNING", "forking is not safe")
        assert "an import has started the thread 'ticker'" in line
        assert len(worker.actors()) == 2
        worker.send(signal.SIGTERM)
        assert worker.exit_code() == 0

    def test_a_project_without_any_is_forked(self, stage, project):
        project.app("shop", SEND)
        worker = stage.worker(**project.environment)
        stage.broker.push([call("shop.tasks.send", "sold")])

        stage.ledger.wait_for("sold")
        assert "forking is not safe" not in worker.log
        assert "shares no memory" not in worker.log


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere everything is spawned")
class TestAModuleThatRegistersAnExitHook:
    MODULE = f"""{HEAD}import atexit
import multiprocessing
import os

atexit.register(lambda: record("left", pid=os.getpid()))


@task
def send(key):
    child = multiprocessing.get_context("fork").Process(target=os.getpid)
    child.start()
    child.join()
    record(key, pid=child.pid, code=child.exitcode)
"""
    FRESH = "from vtasks_supervisor import fork_server\n\nfork_server.KNOWN = False\n"
    TICKER = "import threading\nthreading.Thread(target=until_open, args=('end',), daemon=True).start()\n"

    @pytest.mark.parametrize(
        ("package", "more", "parent"),
        [
            ("", "", "vtasks: fork server"),
            (FRESH, "", "multiprocessing.forkserver"),
            ("", TICKER, "vtasks: supervisor"),
        ],
        ids=["copied", "forked", "spawned"],
    )
    def test_it_runs_at_the_end_of_each_actor_and_of_no_process_that_a_task_forks(
        self, stage, project, package, more, parent
    ):
        module = project.app("shop", self.MODULE + more)
        (module.parent / "__init__.py").write_text(package)
        worker = stage.worker("--processes", "2", **project.environment)
        eventually(lambda: len(worker.actors()) == 2, "both actors")
        actors = set(worker.actors().values())
        for pid in actors:
            assert parent in " ".join(psutil.Process(psutil.Process(pid).ppid()).cmdline())
        stage.broker.push([call("shop.tasks.send", "sold")])
        [child] = stage.ledger.wait_for("sold")
        worker.send(signal.SIGTERM)

        assert worker.exit_code() == 0
        left = [entry["pid"] for entry in stage.ledger.read("left")]
        assert {pid: left.count(pid) for pid in actors} == dict.fromkeys(actors, 1)
        assert child["code"] == 0
        assert child["pid"] not in left

    @pytest.mark.parametrize("package", ["", FRESH], ids=["copied", "forked"])
    def test_a_directory_that_an_import_has_made_outlives_each_actor(self, stage, project, package):
        source = f"""{HEAD}import tempfile
from pathlib import Path

DIRECTORY = tempfile.TemporaryDirectory()


@task
def send(key):
    record(key, path=DIRECTORY.name, is_there=Path(DIRECTORY.name).is_dir())
"""
        module = project.app("shop", source)
        (module.parent / "__init__.py").write_text(package)
        worker = stage.worker(**project.environment)
        eventually(worker.actors, "the actor")
        before = set(worker.actors().values())
        worker.send(signal.SIGHUP)
        eventually(lambda: worker.actors() and not before & set(worker.actors().values()), "another actor")
        stage.broker.push([call("shop.tasks.send", "sold")])

        [entry] = stage.ledger.wait_for("sold")
        assert entry["is_there"]
        worker.send(signal.SIGTERM)
        assert worker.exit_code() == 0
        eventually(lambda: not Path(entry["path"]).exists(), "the end of the directory")


class TestAModuleThatConnectsWhenItIsImported:
    CONNECTS = f"""{HEAD}import asyncio
from django.contrib.auth.models import Group
from tests.workapp.tasks import ALIAS, connection_id, note

asyncio.run(asyncio.sleep(0))
Group.objects.using(ALIAS).exists()
record("imported", connection=connection_id())
note.enqueue("of the import")


@task
def send(key):
    Group.objects.using(ALIAS).exists()
    note.enqueue(f"of {{key}}")
    record(key)
    until_open("all")
"""

    @pytest.mark.parametrize("alias", ["postgres", "mariadb"], indirect=True, ids=["postgresql", "mariadb"])
    def test_its_connection_is_closed_before_actors_are_forked(self, stage, alias, project):
        project.app("shop", self.CONNECTS)
        stage.broker.push([call("shop.tasks.send", f"t{number}") for number in range(3)])
        stage.worker("--processes", "3", "--concurrency", "1", **project.environment)
        stage.ledger.wait_for("t0", "t1", "t2")
        opened = {entry["connection"] for entry in stage.ledger.read("imported")}
        eventually(lambda: not opened & backends(alias).keys(), "what the import has opened is closed")
        stage.ledger.open("all")
        stage.ledger.wait_for("of the import", "of t0", "of t1", "of t2")

        assert stage.failed() == {}

    @pytest.mark.parametrize("alias", ["valkey"], indirect=True, ids=str)
    def test_no_two_processes_share_what_it_has_opened(self, stage, project):
        source = self.CONNECTS.replace("Group.objects.using(ALIAS).exists()", "pass")
        project.app("shop", source.replace("connection_id()", "None"))
        stage.broker.push([call("shop.tasks.send", f"t{number}") for number in range(3)])
        worker = stage.worker("--processes", "3", "--concurrency", "1", **project.environment)
        stage.ledger.wait_for("t0", "t1", "t2")
        holders: dict[Any, list[int]] = {}
        for process in worker.processes():
            for connection in process.net_connections("tcp"):
                holders.setdefault(connection.laddr, []).append(process.pid)
        stage.ledger.open("all")
        stage.ledger.wait_for("of the import", "of t0", "of t1", "of t2")

        assert set(worker.actors().values()) <= {pid for pids in holders.values() for pid in pids}
        assert [pids for pids in holders.values() if len(pids) > 1] == []
        assert stage.failed() == {}

    def test_it_may_do_so_where_actors_are_spawned_whose_loop_runs_already(self, stage, project):
        ticker = "threading.Thread(target=until_open, args=('end',), name='ticker', daemon=True).start()"
        project.app("shop", f"{self.CONNECTS}\nimport threading\n{ticker}\n")
        stage.broker.push([call("shop.tasks.send", "sold")])
        worker = stage.worker(**project.environment)
        stage.ledger.open("all")
        stage.ledger.wait_for("sold", "of sold")

        assert worker.log_lines("WARNING", "forking is not safe")
        assert "Cannot import" not in worker.log


class TestAProcessThatGetsNoThread:
    SCARCE = f"""{HEAD}import threading

from django.contrib.auth.models import Group
from tests.workapp.tasks import ALIAS, is_open

start = threading.Thread.start


def start_if_there_is_one(thread):
    if thread.name.startswith("vtasks-orm") and not is_open("threads"):
        record("refused")
        raise RuntimeError("can't start new thread")
    start(thread)


threading.Thread.start = start_if_there_is_one


@task
async def send(key):
    record("begun")
    await Group.objects.using(ALIAS).aexists()
    record(key)
"""

    def test_an_async_task_that_needs_one_for_the_orm_waits_for_it(self, stage, project):
        project.app("shop", self.SCARCE)
        stage.broker.push([call("shop.tasks.send", "sold")])
        stage.worker(**project.environment)
        stage.ledger.wait_for("refused", "begun", times=2)
        assert stage.failed() == {}
        stage.ledger.open("threads")
        stage.ledger.wait_for("sold")
        stage.until_empty()

        assert stage.failed() == {}
        assert stage.ledger.counts()["sold"] == 1


class TestReload:
    def test_a_change_restarts_the_worker_and_gives_back_what_runs(self, stage, project):
        source = f'{HEAD}@task\ndef send(key):\n    record(key, version="one")\n    until_open(key)\n'
        module = project.app("shop", source)
        stage.broker.push([call("shop.tasks.send", "sold")])
        worker = stage.worker("--reload", **project.environment)
        stage.ledger.wait_for("sold")
        before = {process.pid for process in worker.processes()}
        module.write_text(source.replace("one", "number two"))

        entries = stage.ledger.wait_for("sold", times=2)
        assert [entry["version"] for entry in entries] == ["one", "number two"]
        [row] = stage.rows()
        assert (row.attempt, row.crashes) == (1, 0)
        stage.ledger.open("sold")
        stage.until_empty()
        assert stage.ledger.counts() == {"sold": 2}
        left = {process.pid for process in worker.processes()} & before
        assert left == {worker.process.pid}, "of the first worker, only the reloader is left"
        worker.send(signal.SIGINT)
        worker.exit_code(10)
        eventually(lambda: not worker.processes(), "the end of all processes")

    def test_told_to_end_it_ends_and_gives_back_what_runs(self, stage, project):
        module = project.app("shop", f"{HEAD}@task\ndef send(key):\n    record(key)\n    until_open(key)\n")
        assert module.exists()
        stage.broker.push([call("shop.tasks.send", "sold")])
        worker = stage.worker("--reload", **project.environment)
        stage.ledger.wait_for("sold")
        for process in worker.processes():
            process.send_signal(signal.SIGINT)  # as a terminal does

        worker.exit_code(10)
        eventually(lambda: not worker.processes(), "the end of all processes")
        [row] = stage.rows()
        assert (row.state, row.attempt, row.crashes) == (0, 0, 0)
