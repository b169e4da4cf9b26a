"""The recipes of docs/reference/protocol.md run as printed, on a worker that is set up as docs/howto/valkey.md says."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import valkey

from django_vtasks import wire
from django_vtasks.brokers.base import Ack, Bury, Owner, TaskFailure
from django_vtasks.brokers.valkey import ValkeyBroker
from django_vtasks.brokers.valkey.broker import LONGEST_WAIT
from django_vtasks.brokers.valkey.keys import Keys
from django_vtasks.envelope import Envelope
from django_vtasks.errors import BrokerUnavailable
from django_vtasks.publishing import Template
from tests.app.tasks import add
from tests.integration.probes import eventually
from tests.integration.workers import ROOT, WorkerProcess

PROTOCOL = (ROOT / "docs/reference/protocol.md").read_text()
HOWTO = (ROOT / "docs/howto/valkey.md").read_text()
PRINTED_URL = "valkey://localhost:6379/0"
PREFIX = "{vt}"
SECTION = re.MULTILINE | re.DOTALL
OWNER = Owner("node", "default#1")

RECIPES = {
    name: (language, code)
    for name, language, code in re.findall(r"^<!-- recipe: (\w+) -->\n```(\w+)\n(.*?)^```$", PROTOCOL, SECTION)
}
PLAIN = ["user@example.com", "Hello", "In full"]
SHORTEST = ["user@example.com", "Hello", "The shortest way"]
URGENT = ["admin@example.com", "Urgent", "Server down!"]
DELAYED = ["user@example.com", "Hello", "Later"]
ONCE = ["user@example.com", "Hello", "Once"]
NODE = ["user@example.com", "Hello", "Grüße von Node.js"]

# The page's task, which leaves a line for each run.
TASKS = """
import json, os, time
from django_vtasks import task

@task
def send_email(to: str, subject: str, body: str):
    line = json.dumps({"message": [to, subject, body], "at": time.time()})
    with open(os.environ["TEST_LEDGER"], "a") as ledger:
        ledger.write(f"{line}\\n")
"""


def located(text, url):
    """Return what a page prints with the address of a server that is there."""
    assert PRINTED_URL in text
    return text.replace(PRINTED_URL, url)


class Producer:
    """Somebody who follows the page."""

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._script = directory / "enqueue.mjs"

    def run(self, name: str) -> str:
        """Run a recipe; return what it prints."""
        language, code = RECIPES[name]
        self._script.write_text(located(code, self._url))
        interpreter = {"sh": ("sh", "-eu"), "js": ("node",)}[language]
        done = subprocess.run([*interpreter, self._script], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


class Project:
    """The project of the page on Valkey, and its worker."""

    def __init__(self, url: str, directory: Path) -> None:
        self._directory = directory
        self._ledger = directory / "ledger"
        self._ledger.touch()
        self.worker: WorkerProcess | None = None
        settings = re.search(r"^```python\n# settings.py\n(.*?)^```$", HOWTO, SECTION)
        assert settings is not None
        (directory / "printed_settings.py").write_text(f"SECRET_KEY = 'for tests only'\n{located(settings[1], url)}")
        (directory / "myapp").mkdir()
        (directory / "myapp" / "tasks.py").write_text(TASKS)

    def start(self, *options: str) -> None:
        """Start the worker and wait until it takes tasks."""
        environment = {
            "DJANGO_SETTINGS_MODULE": "printed_settings",
            "PYTHONPATH": str(self._directory),
            "TEST_LEDGER": str(self._ledger),
        }
        self.worker = WorkerProcess(self._directory / "log", *options, environment=environment)
        self.worker.until_ready()

    def stop(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.kill()
            print(self.worker.log)  # noqa: T201 - pytest shows it when the test has failed

    def runs(self) -> list[dict]:
        """Return the runs of the task so far."""
        return [json.loads(line) for line in self._ledger.read_text().splitlines()]

    def until_run(self, times: int) -> list[dict]:
        """Wait for so many runs."""
        eventually(lambda: len(self.runs()) >= times, f"{times} runs")
        return self.runs()


@pytest.fixture
def server(valkey_server):
    with valkey.Valkey.from_url(valkey_server) as client:
        client.flushdb()
        yield client


@pytest.fixture
def producer(server, valkey_server, tmp_path):
    return Producer(valkey_server, tmp_path)


@pytest.fixture
def node():
    """Need Node.js, as `require_server` needs a server."""
    if shutil.which("node") is None:
        message = "There is no Node.js (script/servers installs it)."
        if os.environ.get("VTASKS_REQUIRE_SERVERS") == "1":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture
def projects(server, valkey_server, tmp_path):
    """Give a function that sets up the project, with the user and password of a URL that begins so."""
    with ExitStack() as stack:

        def on(user: str = "") -> Project:
            project = Project(valkey_server.replace("://", f"://{user}"), tmp_path)
            stack.callback(project.stop)
            return project

        yield on


@pytest.fixture
async def broker(server, valkey_server):
    broker = ValkeyBroker(valkey_server, prefix=PREFIX)
    broker.renew(OWNER.node, 60)
    yield broker
    await broker.aclose()


class TestAWorker:
    def test_it_runs_what_other_programs_enqueue_with_its_arguments_and_in_its_order(self, projects, producer, node):
        project = projects()
        for name in ("plain", "shortest", "priority", "node"):
            producer.run(name)
        project.start("--concurrency", "1")

        assert [run["message"] for run in project.until_run(4)] == [URGENT, PLAIN, SHORTEST, NODE]

    def test_it_runs_what_is_delayed_at_its_time(self, projects, producer):
        project = projects()
        project.start()
        earliest = int(time.time()) + 2
        producer.run("delayed")
        latest = int(time.time()) + 2

        [run] = project.until_run(1)
        assert run["message"] == DELAYED
        assert earliest <= run["at"] < latest + 1

    def test_its_user_needs_no_more_rights_than_the_page_says(self, projects, producer, server, valkey_server):
        [rule] = re.findall(r"^(ACL SETUSER .*)$", HOWTO, re.MULTILINE)
        server.execute_command(rule)
        try:
            project = projects("worker:secret@")
            project.start()
            producer.run("plain")
            assert project.until_run(1)[0]["message"] == PLAIN
            limited = ValkeyBroker(valkey_server.replace("://", "://worker:secret@"), prefix="{other}")
            with pytest.raises(BrokerUnavailable, match="does not permit"):
                limited.queues()
            limited.close()
        finally:
            server.execute_command("ACL DELUSER worker")


class TestAProducer:
    async def test_its_task_arrives_as_it_was_sent(self, broker, producer):
        producer.run("plain")

        [claim] = await broker.claim(OWNER, "default", 10)
        assert claim.problem is None
        envelope = claim.envelope
        assert (envelope.task, envelope.queue) == ("myapp.tasks.send_email", "default")
        assert (envelope.args, envelope.kwargs) == (PLAIN[:2], {"body": PLAIN[2]})
        assert envelope.attempt == 1

    async def test_its_task_wakes_a_claim_that_waits(self, broker, producer, server):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        waiting = asyncio.create_task(broker.claim(OWNER, "default", 1, wait=2 * LONGEST_WAIT))
        await asyncio.to_thread(eventually, lambda: server.info()["blocked_clients"] == 1, "the claim waits")
        await asyncio.to_thread(producer.run, "plain")

        assert [claim.envelope.args for claim in await waiting] == [PLAIN[:2]]
        assert loop.time() - begun < LONGEST_WAIT, "or it would have looked anyway"

    async def test_its_delayed_task_wakes_a_claim_when_it_is_due(self, broker, producer, server):
        waiting = asyncio.create_task(broker.claim(OWNER, "default", 1, wait=2 * LONGEST_WAIT))
        await asyncio.to_thread(eventually, lambda: server.info()["blocked_clients"] == 1, "the claim waits")
        await asyncio.to_thread(producer.run, "delayed")

        [claim] = await waiting
        late = server.time()[0] + server.time()[1] / 1e6 - claim.envelope.run_after
        assert claim.envelope.args == DELAYED
        assert 0 <= late < 1

    async def test_without_the_bell_its_task_is_found_all_the_same(self, broker, producer, server):
        assert f"every {LONGEST_WAIT:g} s" in PROTOCOL
        loop = asyncio.get_running_loop()
        begun = loop.time()
        waiting = asyncio.create_task(broker.claim(OWNER, "default", 1, wait=LONGEST_WAIT + 2))
        await asyncio.to_thread(eventually, lambda: server.info()["blocked_clients"] == 1, "the claim waits")
        await asyncio.to_thread(producer.run, "shortest")

        assert [claim.envelope.args for claim in await waiting] == [SHORTEST]
        assert loop.time() - begun > LONGEST_WAIT - 0.1, "nobody has told it"

    def test_a_bell_that_nobody_hears_does_not_grow(self, producer, server):
        for name in ("plain", "priority", "delayed", "unique", "plain"):
            producer.run(name)

        assert server.llen(f"{PREFIX}:bell:default") == 1

    async def test_its_unique_task_and_one_of_django_exclude_each_other(self, broker, producer):
        task = add.using(unique=True, unique_key="email-7")
        equal = Template(task, max_rescues=2).filled((1, 2), {})
        assert producer.run("unique") == "1\n"

        assert producer.run("unique") == "0\n"
        assert broker.push([equal]) == [False]
        [claim] = await broker.claim(OWNER, "default", 10)
        assert (claim.envelope.args, claim.envelope.unique) == (ONCE, equal.unique)
        assert await broker.settle(OWNER, [Ack(claim)]) == [True]
        assert broker.push([equal]) == [True]
        assert producer.run("unique") == "0\n"

    async def test_what_failed_can_be_enqueued_again_from_its_record(self, broker, producer, server):
        producer.run("plain")
        [claim] = await broker.claim(OWNER, "default", 1)
        await broker.settle(OWNER, [Bury(claim, TaskFailure("builtins.OSError", "No route\nto host"))])
        [record] = server.lrange(f"{PREFIX}:failed", 0, -1)
        line, _, entry = record.partition(b"\n")
        microseconds, _, facts = line.partition(b" ")
        server.lpush(f"{PREFIX}:waiting:default", entry)

        assert int(microseconds) == pytest.approx(server.time()[0] * 1e6, abs=60e6)
        facts = json.loads(facts)
        assert set(facts) == {"id", "queue", "task", "failure", "attempts", "crashes"}
        assert facts["failure"] == {"exception": "builtins.OSError", "message": "No route\nto host", "traceback": ""}
        [again] = await broker.claim(OWNER, "default", 1)
        assert again.envelope == claim.envelope


class TestThePage:
    def test_it_tells_of_every_key(self):
        told = set(re.findall(r"^\| `\{vt\}:(\w+)", PROTOCOL, re.MULTILINE))

        kept = vars(Keys(PREFIX)).keys() | {name for name in vars(Keys) if not name.startswith("_")}
        assert told == kept - {"prefix"}

    def test_it_tells_of_every_field(self):
        [table] = re.findall(r"^\| field \|.*?\n\n", PROTOCOL, SECTION)
        told = [
            name for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
        ]

        assert sorted(told) == sorted(["v", *Envelope.__struct_fields__])

    def test_it_tells_the_size_of_the_largest_payload(self):
        assert f"{wire.MAX_BYTES // 2**20} MiB" in PROTOCOL
        assert wire.MAX_BYTES % 2**20 == 0

    def test_every_recipe_of_it_is_run_here(self):
        fenced = re.findall(r"^```(sh|js)$", PROTOCOL, re.MULTILINE)

        assert set(RECIPES) == {"shortest", "plain", "priority", "delayed", "unique", "node"}
        assert len(fenced) == len(RECIPES)

    def test_the_urls_of_the_page_on_valkey_are_such(self):
        urls = re.findall(r"^\| `(\w+://[^`]*)`", HOWTO, re.MULTILINE)

        assert {urlsplit(url).scheme for url in urls} == {"valkey", "valkeys", "unix"}
        for url in urls:
            ValkeyBroker(url, prefix=PREFIX).close()
