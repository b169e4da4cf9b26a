"""A virtual environment for each contender, made when it is first needed."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from load_tests.bench.contender import Contender

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "bench"
INSIDE = Path(__file__).parent / "inside"
_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class CannotInstallError(Exception):
    """A contender cannot be installed here; the message has the installer's last words."""


def python_of(contender: Contender, backend: str, *, here: bool = False) -> Path:
    """Return the Python that has a contender with what a backend needs; with ``here``, the one that runs this."""
    if here:
        return Path(sys.executable)
    requirements = [*contender.requirements, *contender.backends[backend]]
    project = (ROOT / "pyproject.toml").read_text() if _is_path(requirements[0]) else ""
    key = json.dumps([requirements, platform.python_version(), str(ROOT), project])
    directory = CACHE / f"{contender.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    python = directory / "bin" / "python"
    if not (directory / "complete").exists():
        _make(directory, [part for each in requirements for part in _arguments(each)])
        (directory / "complete").touch()
    return python


def versions(python: Path, contender: Contender) -> dict[str, str]:
    """Return the installed versions of what a contender names."""
    command = [str(python), "-c", _VERSIONS, *contender.distributions]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60.0).stdout
    found: dict[str, str] = json.loads(output)
    return found


def environ(python: Path, contender: Contender, extra: dict[str, str]) -> dict[str, str]:
    """Return the environment of a contender's processes: nothing of the user's own but where programs are."""
    return {
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(INSIDE),
        "PYTHONUNBUFFERED": "1",
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "BENCH_MODULE": contender.module,
        **contender.environ,
        **extra,
    }


def _is_path(requirement: str) -> bool:
    return requirement.startswith("/")


def _arguments(requirement: str) -> list[str]:
    return ["--editable", requirement] if _is_path(requirement) else [requirement]


def _make(directory: Path, arguments: list[str]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    python = str(directory / "bin" / "python")
    if uv := shutil.which("uv"):
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(directory)])
        _run([uv, "pip", "install", "--quiet", "--python", python, *arguments])
        return
    _run([sys.executable, "-m", "venv", str(directory)])
    _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900.0, check=False)
    if done.returncode:
        raise CannotInstallError("\n".join(done.stderr.splitlines()[-10:]))
