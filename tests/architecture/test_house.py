"""The two source roots, the wheel made of them, and what the base install must do without."""

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    "django_vtasks": ROOT / "vtasks" / "django_vtasks",
    "vtasks_supervisor": ROOT / "supervisor" / "vtasks_supervisor",
}

# Modules that need an extra by their very purpose.
NEED_EXTRAS = (
    "django_vtasks.backends.valkey",
    "django_vtasks.brokers.database.postgresql",
    "django_vtasks.brokers.valkey",
)

IMPORT_ALL_WITHOUT_EXTRAS = f"""
import importlib, pkgutil, sys

for name in ("MySQLdb", "prometheus_client", "psycopg", "uvloop", "valkey"):
    sys.modules[name] = None  # as if it were not installed

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django_vtasks", "django_vtasks.db"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}},
)
django.setup()
import django_vtasks

for module in pkgutil.walk_packages(django_vtasks.__path__, "django_vtasks."):
    if not module.name.startswith({NEED_EXTRAS!r}):
        importlib.import_module(module.name)
        print(module.name)
"""


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build sdist and wheel as an installer would, without the network."""
    target = tmp_path_factory.mktemp("dist")
    run("-m", "hatchling", "build", "-d", str(target), cwd=ROOT)
    return target


@pytest.mark.parametrize("package", SOURCES)
def test_the_editable_install_follows_the_source_roots(package, tmp_path):
    origin = run("-c", f"import {package}; print({package}.__file__)", cwd=tmp_path)

    assert Path(origin.strip()) == SOURCES[package] / "__init__.py"


@pytest.mark.parametrize("root", ["vtasks", "supervisor"])
def test_a_source_root_is_not_a_package(root):
    spec = importlib.util.find_spec(root)

    assert spec is None or spec.origin is None, "only a namespace without code may have this name"
    assert not list((ROOT / root).glob("*.py"))


def test_the_wheel_holds_the_two_typed_packages_and_nothing_else(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()

    packages = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert packages == set(SOURCES)
    assert {f"{package}/py.typed" for package in SOURCES} <= set(names)


def test_the_wheel_holds_every_source_file(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}

    sources = {
        f"{package}/{path.relative_to(directory)}"
        for package, directory in SOURCES.items()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == sources


def test_the_source_distribution_can_be_built_from(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}

    assert {"pyproject.toml", "LICENSE", "README.md"} <= names
    assert "vtasks/django_vtasks/__init__.py" in names
    assert "supervisor/vtasks_supervisor/__init__.py" in names


def test_the_base_install_needs_no_optional_package(tmp_path):
    imported = run("-c", IMPORT_ALL_WITHOUT_EXTRAS, cwd=tmp_path).splitlines()

    assert "django_vtasks.backends.db" in imported
