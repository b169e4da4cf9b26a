"""Valkey over TLS, for a user with a password: certificates are looked at, and what is wrong with them is told."""

import re
import subprocess
import time
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.tasks import task_backends
from django.test import override_settings

from django_vtasks.backends.valkey import ValkeyTaskBackend
from django_vtasks.errors import BrokerUnavailable
from tests import databases, servers
from tests.contract.threads import aside
from tests.integration.probes import eventually
from tests.integration.stores import VALKEY
from tests.integration.valkeys import OwnValkey, own_valkey
from tests.workapp import tasks

COUNT = 300
WITHIN = 5.0
USER, PASSWORD = "worker", "sesame@open/1"
GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "valkey.md"


def rights() -> list[str]:
    """Return what users are told to allow."""
    told = re.search(r"^ACL SETUSER \w+ on >\w+ (.+)$", GUIDE.read_text(), re.MULTILINE)
    assert told is not None
    return told[1].split()


class Authority:
    """A certificate authority in a directory; ``pem`` is its own certificate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._key = directory / "ca.key"
        self.pem = directory / "ca.pem"
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", "-x509", *new_key(self._key), "-days", "2", "-subj", "/CN=tests", *usage, "-out", self.pem)

    def certificate(self, address: str) -> tuple[Path, Path]:
        """Return the files of a certificate for a host's address and of its key."""
        key, request, extensions, pem = (self._directory / f"{address}.{kind}" for kind in ("key", "csr", "ext", "pem"))
        openssl("req", *new_key(key), "-subj", f"/CN={address}", "-out", request)
        extensions.write_text(
            f"subjectAltName=IP:{address}\nauthorityKeyIdentifier=keyid\nbasicConstraints=critical,CA:FALSE\n"
        )
        signed_by = ("-CA", self.pem, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions)
        openssl("x509", "-req", "-in", request, *signed_by, "-days", "2", "-out", pem)
        key.chmod(0o644)  # the server may run as somebody else
        return pem, key


def new_key(path: Path) -> tuple[str | Path, ...]:
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", path


def openssl(*arguments: str | Path) -> None:
    program = servers.find("openssl")
    assert program is not None, "The tests of TLS make certificates with the program openssl, which is not installed."
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


class Safe:
    """A server with a port for TLS, and with nobody who has no password; its certificate is for 127.0.0.1."""

    def __init__(self, server: OwnValkey) -> None:
        self.server = server
        self.authority = Authority(server.data / "ours")
        self.stranger = Authority(server.data / "theirs")
        self.port = servers.free_port()
        certificate, key = self.authority.certificate("127.0.0.1")
        server.configure(
            **{
                "tls-cert-file": str(certificate),
                "tls-key-file": str(key),
                "tls-ca-cert-file": str(self.authority.pem),
                "tls-auth-clients": "no",
                "tls-port": self.port,
            }
        )
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", *rights())
        server.configure(requirepass="nobody-knows")

    @property
    def url(self) -> str:
        return self.url_of(self.port)

    def url_of(self, port: int, *, scheme: str = "valkeys", host: str = "127.0.0.1", **options: object) -> str:
        options = {"ssl_ca_certs": self.authority.pem, **options} if scheme == "valkeys" else {}
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{scheme}://{USER}:{quote(PASSWORD, safe='')}@{host}:{port}/0?{query}"


@pytest.fixture(scope="module")
def safe():
    databases.require_server("valkey")
    with own_valkey() as server:
        yield Safe(server)


@pytest.fixture
def stage(safe, stages):
    with safe.server.client() as client:
        client.flushall()
    stage = stages("valkey", TEST_TASKS_VALKEY=safe.url)
    yield stage
    stage.stop()


def enqueue(way, key):
    return tasks.note.aenqueue(key) if way == "aenqueue" else aside(tasks.note.enqueue, key)


both_ways = pytest.mark.parametrize("way", ["enqueue", "aenqueue"])


@both_ways
async def test_a_user_with_a_password_enqueues_over_tls(way, safe, stage):
    for number in range(3):
        assert await enqueue(way, f"n{number}") is not None

    assert await aside(stage.size) == 3
    with safe.server.client() as client:
        users = {info["user"] for info in client.client_list() if info["name"].startswith("vtasks-")}
    assert users == {USER}
    await stage.broker.aclose()


def test_a_worker_works_over_tls_and_reconnects(safe, stage):
    calls: list[Any] = [((tasks.work, tasks.awork)[n % 2], (f"t{n}", 0.02), {}) for n in range(COUNT)]
    stage.enqueue_many(calls)
    worker = stage.worker("--concurrency", "8")
    eventually(lambda: stage.ledger.counts().total() > 50, "some have run")
    with safe.server.client() as client:
        of_actors = [info["id"] for info in client.client_list() if re.match("vtasks-(async|wait)-", info["name"])]
        assert sum(client.client_kill_filter(_id=number) for number in of_actors) >= 1, "VACUOUS: nothing was cut"
    assert stage.ledger.counts().total() < COUNT, "VACUOUS: all had run"

    stage.until_empty()
    assert stage.ledger.counts() == {f"t{number}": 1 for number in range(COUNT)}
    assert stage.failed() == {}
    assert worker.is_running
    assert PASSWORD not in worker.log


async def told_of(url, way):
    """Return what an enqueue to a URL says, which must come in time and keep the password."""
    with override_settings(TASKS={"default": {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": url}}}):
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable) as raised:
            await enqueue(way, "refused")
        assert time.monotonic() - began < WITHIN
        backend = task_backends["default"]
        assert isinstance(backend, ValkeyTaskBackend)
        await backend.broker.aclose()
    told = "".join(traceback.format_exception(raised.value))
    assert PASSWORD not in told
    assert quote(PASSWORD, safe="") not in told
    return str(raised.value)


@both_ways
async def test_a_certificate_of_an_unknown_authority_is_refused(way, safe):
    message = await told_of(safe.url_of(safe.port, ssl_ca_certs=safe.stranger.pem), way)

    assert message.startswith(f"Valkey at 127.0.0.1:{safe.port}/0 cannot be reached: ")
    assert "certificate verify failed" in message


@both_ways
async def test_a_certificate_for_another_host_is_refused(way, safe):
    message = await told_of(safe.url_of(safe.port, host="localhost"), way)

    assert message.startswith(f"Valkey at localhost:{safe.port}/0 cannot be reached: ")
    assert "Hostname mismatch" in message


@both_ways
@pytest.mark.parametrize("option", [{"ssl_check_hostname": "false"}, {"ssl_cert_reqs": "none"}], ids=["name", "all"])
async def test_the_url_may_say_that_the_host_need_not_be_that_of_the_certificate(way, safe, stage, option):
    url = safe.url_of(safe.port, host="localhost", **option)
    with override_settings(TASKS={"default": {"BACKEND": VALKEY, "OPTIONS": {"BROKER_URL": url}}}):
        assert await enqueue(way, "accepted") is not None
        backend = task_backends["default"]
        assert isinstance(backend, ValkeyTaskBackend)
        await backend.broker.aclose()


@both_ways
async def test_tls_to_a_port_without_it_is_told(way, safe):
    message = await told_of(safe.url_of(safe.server.port), way)

    assert message == f"Valkey at 127.0.0.1:{safe.server.port}/0 did not answer in time."


@both_ways
async def test_a_port_for_tls_without_it_is_told(way, safe):
    message = await told_of(safe.url_of(safe.port, scheme="valkey"), way)

    assert message.startswith(f"Valkey at 127.0.0.1:{safe.port}/0 cannot be reached: ")


def test_a_worker_that_trusts_somebody_else_says_why_it_does_not_start_to_work(safe, stage):
    worker = stage.start(TEST_TASKS_VALKEY=safe.url_of(safe.port, ssl_ca_certs=safe.stranger.pem))

    worker.until_it_says("certificate verify failed", times=2)
    assert not worker.is_ready
    assert worker.is_running
    assert PASSWORD not in worker.log
