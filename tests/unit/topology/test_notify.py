"""What systemd is told."""

import os
import secrets
import socket
import sys

import pytest

from django_vtasks.topology.notify import Notifier

PATIENCE = 10


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE)
        yield listener


def environ(listener, **more):
    return {"NOTIFY_SOCKET": listener.getsockname(), **more}


@pytest.mark.parametrize(
    ("say", "heard"),
    [
        (Notifier.ready, b"READY=1"),
        (Notifier.stopping, b"STOPPING=1"),
        (Notifier.watchdog, b"WATCHDOG=1"),
        (lambda notifier: notifier.status("4 actors"), b"STATUS=4 actors"),
        (lambda notifier: notifier.status("größer"), "STATUS=größer".encode()),
        (lambda notifier: notifier.extend(2.5), b"EXTEND_TIMEOUT_USEC=2500000"),
        (lambda notifier: notifier.extend(30), b"EXTEND_TIMEOUT_USEC=30000000"),
    ],
)
def test_systemd_hears_what_it_is_told(systemd, say, heard):
    say(Notifier.from_environ(environ(systemd)))

    assert systemd.recv(4096) == heard


def test_a_status_is_one_line_however_it_is_written(systemd):
    Notifier.from_environ(environ(systemd)).status("2 actors\nREADY=1\r\n\x0bSTOPPING=1")

    assert systemd.recv(4096) == b"STATUS=2 actors READY=1 STOPPING=1"


def test_a_status_has_a_length_that_systemd_reads(systemd):
    Notifier.from_environ(environ(systemd)).status("ü" * 100_000)

    assert len(systemd.recv(100_000)) < 4096


@pytest.mark.skipif(sys.platform != "linux", reason="Abstract addresses are Linux's.")
def test_the_address_may_be_abstract():
    name = f"vtasks-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(PATIENCE)

        Notifier.from_environ({"NOTIFY_SOCKET": f"@{name}"}).ready()

        assert listener.recv(4096) == b"READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "30000000"}])
def test_without_systemd_nobody_is_told_and_nobody_minds(environ, caplog):
    notifier = Notifier.from_environ(environ)
    notifier.ready()
    notifier.status("busy")

    assert notifier.watchdog_interval is None
    assert not caplog.records


@pytest.mark.parametrize(
    "address", ["/nowhere/notify", "@vtasks-nobody", "/" + "long" * 50, "vsock:2:1234", "a\0b", "@"]
)
def test_a_socket_that_does_not_work_is_logged_once(address, caplog):
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": address})
    for _ in range(3):
        notifier.ready()
        notifier.watchdog()

    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "READY=1" in record.getMessage()


@pytest.mark.timeout(PATIENCE)
def test_a_systemd_that_does_not_listen_does_not_hold_us_up(systemd, caplog):
    notifier = Notifier.from_environ(environ(systemd))
    for _ in range(10_000):
        notifier.watchdog()

    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("more", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": ""}, 15.0),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "me"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "9" * 4000}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_if_it_is_ours(systemd, more, interval):
    assert Notifier.from_environ(environ(systemd, **more)).watchdog_interval == interval
