"""What the kernel tells of processes."""

import subprocess
import sys

import pytest

from load_tests.chaos import processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
CODE = "import sys; del (taken := bytearray(300_000_000))[:]; print(flush=True); sys.stdin.read()"


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_the_peak_is_what_one_had_even_if_it_has_given_it_back(process):
    assert 300.0 < processes.peak([process.pid]) < 400.0


def test_a_process_is_gone_when_it_is_dead_buried_or_not(process):
    assert not processes.is_gone(process.pid)
    process.kill()
    process.stdout.read()
    while not processes.is_gone(process.pid):
        pass
    process.wait()
    assert processes.is_gone(process.pid)
    assert processes.peak([process.pid]) == 0.0
