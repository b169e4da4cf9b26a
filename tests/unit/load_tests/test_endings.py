"""What a run makes of signals that end."""

import signal
import subprocess
import sys

import pytest

from tests.integration.workers import ROOT

IGNORING = """
import signal, sys
from load_tests import endings

number = signal.Signals[sys.argv[1]]
signal.signal(number, signal.SIG_IGN)
endings.in_good_order()
signal.raise_signal(number)
print("goes on")
"""


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("SIGHUP", 0, "goes on\n"), ("SIGINT", 128 + signal.SIGINT, ""), ("SIGTERM", 128 + signal.SIGTERM, "")],
)
def test_what_nohup_lets_a_run_ignore_does_not_end_it_and_what_a_shell_does_ends_it(name, code, said):
    done = subprocess.run(
        [sys.executable, "-c", IGNORING, name], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout) == (code, said), done.stderr
