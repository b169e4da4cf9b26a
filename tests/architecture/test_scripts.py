"""The commands in script/, in a checkout whose servers and packages are not installed but noted."""

import shutil
import subprocess
import sys

import pytest

from tests.integration.workers import ROOT

PYTHON = f"""#!/bin/sh
case "$*" in *load_tests*) echo "$@"; exit ;; esac
exec {sys.executable} "$@"
"""
NOTE = """#!/bin/sh
echo "$(basename "$0")" "$@" >>noted
"""


@pytest.fixture
def call(tmp_path):
    """Give a function that calls a script, and returns what that says and what it has installed."""
    shutil.copytree(ROOT / "script", tmp_path / "script")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "uv.lock").touch()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "made-in").write_text(f"{tmp_path}\n")
    for name, text in ((".venv/bin/python", PYTHON), ("script/servers", NOTE), ("uv", NOTE)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(script, *options):
        done = subprocess.run(
            [tmp_path / "script" / script, *options],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        noted = [line for line in (tmp_path / "noted").read_text().splitlines() if line != "uv --version"]
        return done.stdout.splitlines(), noted

    return run


@pytest.mark.parametrize(
    ("script", "option"),
    [("chaos", "--list"), ("chaos", "--help"), ("soak", "--help"), ("soak", "-h"), ("bench", "-h")],
)
def test_what_only_tells_of_itself_installs_no_servers_and_builds_no_driver(call, script, option):
    said, [installed] = call(script, option)

    assert said == [f"-m load_tests {script} {option}"]
    assert installed.startswith("uv sync")
    assert installed.endswith(" --group bench")


@pytest.mark.parametrize(
    ("script", "options", "groups"),
    [
        ("chaos", ["--ci"], "--group test --group mysql"),
        ("soak", ["--minutes", "3"], "--group test --group mysql"),
        ("bench", ["--count", "9"], "--group bench --group mysql"),
    ],
)
def test_what_runs_has_servers_first(call, script, options, groups):
    said, [first, second] = call(script, *options)

    assert said == [" ".join(["-m load_tests", script, *options])]
    assert first == "servers"
    assert second.endswith(groups)
