"""The throw-away servers end with the tests, whatever ends those."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.databases import require_server

ROOT = Path(__file__).parents[2]
TIMEOUT = 20.0

TESTS = """
import json, signal
from tests import servers

with servers.running("valkey") as addresses:
    print(json.dumps(addresses), flush=True)
    signal.pause()
"""


def test_no_server_outlives_tests_that_were_killed():
    require_server("valkey")
    with subprocess.Popen([sys.executable, "-c", TESTS], cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        addresses = json.loads(tests.stdout.readline())
        tests.kill()

    deadline = time.monotonic() + TIMEOUT
    while Path(addresses["TEST_RUN_DIRECTORY"]).exists():
        assert time.monotonic() < deadline, "the data is still there"
        time.sleep(0.01)
    address = urlsplit(addresses["TEST_VALKEY_URL"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=TIMEOUT)
