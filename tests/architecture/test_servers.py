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
import json, signal, sys
from tests import servers

with servers.running(sys.argv[1]) as addresses:
    print(json.dumps(addresses), flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("name", ["valkey", "redis", "valkey-cluster"])
def test_no_server_outlives_tests_that_were_killed(name):
    require_server(name)
    with subprocess.Popen([sys.executable, "-c", TESTS, name], cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        addresses = json.loads(tests.stdout.readline())
        tests.kill()

    directory = Path(addresses.pop("TEST_RUN_DIRECTORY"))
    deadline = time.monotonic() + TIMEOUT
    while directory.exists():
        assert time.monotonic() < deadline, "the data is still there"
        time.sleep(0.01)
    [urls] = addresses.values()
    for url in urls.split():
        address = urlsplit(url)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address.hostname, address.port), timeout=TIMEOUT)
