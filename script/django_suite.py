"""Run Django's own tests of django.tasks against this package, on the version of Django that is installed.

They come from Django's source distribution, out of the package index that pip is configured for, and run twice: with
Django's ``@task`` and with ours, both on our ImmediateBackend; without the tests of Django's dummy and custom backends.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

CACHE = Path(__file__).parent.parent / ".cache" / "django-suite"
EXCLUDED = ("test_custom_backend.py", "test_dummy_backend.py")
TIMEOUT = 300

type Edit = tuple[str, str, str]
"""File, text in it, and what stands there instead."""

OUR_BACKEND: list[Edit] = [
    (name, "django.tasks.backends.immediate", "django_vtasks.backends.immediate")
    for name in ("test_immediate_backend.py", "test_tasks.py")
]
OUR_DECORATOR: Edit = (
    "tasks.py",
    "from django.tasks import TaskContext, task\n",
    "from django.tasks import TaskContext\nfrom django_vtasks import task\n",
)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stock", action="store_true", help="Change nothing: what do the tests say of Django itself?")
    variants: dict[str, list[Edit]] = {
        "Django's decorator, our backend": OUR_BACKEND,
        "our decorator, our backend": [*OUR_BACKEND, OUR_DECORATOR],
    }
    if parser.parse_args().stock:
        variants = {"Django's decorator, Django's backend": []}

    archive = source_distribution(django.__version__)
    results = [run(title, archive, edits) for title, edits in variants.items()]
    sys.exit(not all(results))


def source_distribution(version: str) -> Path:
    """Return Django's source distribution, downloaded unless a former run has."""
    archive = CACHE / f"django-{version}.tar.gz"
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "django"]
        subprocess.run([*pip, "--dest", CACHE, f"django=={version}"], check=True, timeout=TIMEOUT)
    return archive


def run(title: str, archive: Path, edits: list[Edit]) -> bool:
    """Run the tests with some texts replaced; return whether there were any and all passed."""
    print(f"── Django {django.__version__}: {title}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        tests = unpack(archive, Path(directory))
        for name in EXCLUDED:
            (tests / "tasks" / name).unlink()
        for edit in edits:
            replace(tests / "tasks", edit)
        command = [sys.executable, "runtests.py", "tasks", "--settings=test_sqlite", "--parallel=1"]
        done = subprocess.run(
            command,
            cwd=tests,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    print(done.stdout, flush=True)
    count = re.search(r"^Ran (\d+) tests?", done.stdout, re.MULTILINE)
    if count is None or count[1] == "0":
        print("No test ran: that is a failure.")
        return False
    return done.returncode == 0


def unpack(archive: Path, target: Path) -> Path:
    """Unpack the tests of django.tasks and what runs them; return the directory of the tests."""
    root = archive.name.removesuffix(".tar.gz") + "/tests"
    with tarfile.open(archive) as tar:
        wanted = [
            member
            for member in tar
            if (path := Path(member.name)).parent == Path(root) or Path(root, "tasks") in path.parents
        ]
        tar.extractall(target, wanted, filter="data")
    return target / root


def replace(tests: Path, edit: Edit) -> None:
    """Apply an edit; stop if the text is not there, because then the tests would not test ours."""
    name, old, new = edit
    text = (tests / name).read_text()
    if old not in text:
        sys.exit(f"{name} of Django {django.__version__} does not have {old!r}")
    (tests / name).write_text(text.replace(old, new))


if __name__ == "__main__":
    main()
