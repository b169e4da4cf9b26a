"""Copies of this package's code in which a little is changed, as another version has it."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from tests.integration.workers import ROOT

PACKAGES = ("vtasks/django_vtasks", "supervisor/vtasks_supervisor")
HALF_WRITTEN = shutil.ignore_patterns("*.pyc.*")
"""What another process is about to compile: it has another name when it is done."""


class Change(NamedTuple):
    """What stands in a file of the other version, whose path begins with the package, and what stands there now."""

    file: str
    now: str
    then: str


def plant(directory: Path, *changes: Change) -> str:
    """Make a tree of code in a new directory; return the PYTHONPATH of who runs it."""
    for package in PACKAGES:
        source = ROOT / package
        shutil.copytree(source, directory / source.name, ignore=HALF_WRITTEN)
    for file, now, then in changes:
        path = directory / file
        text = path.read_text()
        assert text.count(now) == 1, f"{now!r} stands {text.count(now)} times in {file}, where it is to be changed"
        path.write_text(text.replace(now, then))
    return os.pathsep.join(map(str, (directory, ROOT)))
