"""A log that nobody reads stops nobody."""

import fcntl
import logging
import os
import socket
import sys
import time

import pytest

from django_vtasks.topology import logs
from django_vtasks.topology.logs import PatientHandler


@pytest.fixture
def pipe():
    """Give both ends of a pipe that holds a page."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    yield read, write
    os.close(read)
    os.close(write)


@pytest.fixture
def log():
    """Give a function that returns a logger on a handler for this descriptor."""
    opened = []

    def on(fd):
        logger = logging.Logger("of the test")  # noqa: LOG001 - not of the process's
        handler = PatientHandler(fd)
        if handler._outlet.fd != fd:
            opened.append(handler._outlet.fd)
        logger.addHandler(handler)
        return logger

    yield on
    for own in opened:
        os.close(own)


def read_all(fd):
    os.set_blocking(fd, False)
    seen = b""
    while True:
        try:
            seen += os.read(fd, 65536)
        except BlockingIOError:
            return seen.decode()


def read_more(handler, fd):
    handler.flush()
    return read_all(fd)


def test_lines_come_at_once_and_in_their_order(pipe, log):
    read, write = pipe
    logger = log(write)
    logger.info("one %d", 1)
    logger.info("naïve \ud800")

    assert read_all(read) == "one 1\nnaïve \\ud800\n"


def test_configuring_logging_once_more_does_not_end_it(pipe, log):
    """It closes all handlers, and leaves those where they are that it knows nothing of."""
    read, write = pipe
    logger = log(write)
    logger.handlers[0].close()
    logger.info("still here")

    assert read_all(read) == "still here\n"


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_what_was_kept_comes_later(pipe, log):
    read, write = pipe
    logger = log(write)
    began = time.monotonic()
    for number in range(200):
        logger.info("%03d %s", number, "x" * 96)
    assert time.monotonic() - began < 5
    seen = read_all(read)
    assert len(seen) <= 4096
    while len(seen) < 200 * 101:
        logger.handlers[0].flush()
        seen += read_all(read)

    assert [line[:3] for line in seen.splitlines()] == [f"{number:03}" for number in range(200)]


def test_what_is_too_much_is_dropped_and_counted(pipe, log, monkeypatch):
    monkeypatch.setattr(logs, "MOST", 1000)
    read, write = pipe
    logger = log(write)
    for _ in range(100):
        logger.info("x" * 99)
    seen = read_all(read)
    logger.handlers[0].flush()
    seen += read_all(read)
    logger.info("again")
    seen += read_all(read)

    kept = seen.count("x" * 99)
    assert kept < 100
    assert seen.endswith(f"{100 - kept} records of this log are lost: nobody read it\nagain\n")


def test_a_reader_that_is_gone_is_no_error(log):
    read, write = os.pipe()
    logger = log(write)
    os.close(read)
    logger.info("to nobody")
    os.close(write)


def test_the_descriptor_of_the_others_goes_on_blocking(pipe, log):
    log(pipe[1])

    assert os.get_blocking(pipe[1])


def test_a_socket_that_nobody_reads_holds_nobody_up_either(log):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        logger = log(theirs.fileno())
        for _ in range(100):
            logger.info("x" * 9_999)

        assert ours.recv(10_000).startswith(b"xxx")
        assert os.get_blocking(theirs.fileno())


def test_a_file_is_written_where_the_others_have_left_off(tmp_path, log):
    with (tmp_path / "log").open("wb") as file:
        os.write(file.fileno(), b"before\n")
        log(file.fileno()).info("ours")
        os.write(file.fileno(), b"after\n")

    assert (tmp_path / "log").read_text() == "before\nours\nafter\n"


def test_where_the_stream_has_no_descriptor_an_ordinary_handler_serves(capsys):
    assert type(logs._handler()) is logging.StreamHandler


@pytest.fixture
def stderr(pipe, monkeypatch):
    """Give the standard error as a stream into the pipe."""
    with os.fdopen(os.dup(pipe[1]), "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        yield stream


@pytest.fixture
def of_project(stderr):
    """Give a logger with a handler as LOGGING has it, after the worker has begun."""
    logger = logging.getLogger("of a project")
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(logging.Formatter("project: %(message)s"))
    logger.addHandler(handler)
    logs.wait_for_no_reader()
    yield logger
    logger.removeHandler(handler)
    os.close(handler.stream._outlet.fd)


def test_a_handler_of_the_project_s_waits_for_nobody_and_writes_as_it_did(pipe, of_project):
    for number in range(1000):
        of_project.warning("%d %s", number, "x" * 20)
    begin = read_all(pipe[0])
    of_project.warning("again")
    rest = read_all(pipe[0])

    assert begin.startswith("project: 0 xxxx")
    assert len(begin) <= 4096
    assert rest.startswith(begin[-1:] if begin.endswith("\n") else "") or rest
    assert (begin + rest).count("\n") > 100


def test_to_make_it_patient_twice_changes_nothing(of_project):
    [handler] = of_project.handlers
    stream = handler.stream
    logs.wait_for_no_reader()

    assert handler.stream is stream


def test_a_handler_that_writes_elsewhere_is_left_alone(tmp_path, stderr):
    logger = logging.getLogger("of a file")
    handler = logging.FileHandler(tmp_path / "log")
    logger.addHandler(handler)
    logs.wait_for_no_reader()

    assert not isinstance(handler.stream, logs.PatientStream)
    logger.removeHandler(handler)
    handler.close()
