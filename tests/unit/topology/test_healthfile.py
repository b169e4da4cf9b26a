"""A file whose age says how long ago the worker was last well."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from django_vtasks.topology.healthfile import HealthFile

LONG_AGO = 1_000_000_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "health"


@pytest.fixture
def refusal(monkeypatch):
    """A file system that refuses to write as long as it is told to, as a read-only one does."""
    refusal: dict[str, OSError | None] = {"error": OSError(errno.EROFS, "Read-only file system")}
    original = Path.open

    def refuse(path, *arguments, **options):
        if refusal["error"] is not None:
            raise refusal["error"]
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    return refusal


def test_a_touch_makes_the_file_with_the_present_moment_in_it(path):
    before = datetime.now(UTC).replace(microsecond=0)

    HealthFile(path).touch()

    assert before <= datetime.fromisoformat(path.read_text().strip()) <= datetime.now(UTC)


def test_each_touch_makes_it_young_again(path):
    file = HealthFile(str(path))
    file.touch()
    os.utime(path, (LONG_AGO, LONG_AGO))

    file.touch()

    assert path.stat().st_mtime > LONG_AGO


def test_a_reader_of_the_old_file_never_sees_half_of_the_new_one(path):
    file = HealthFile(path)
    file.touch()
    with path.open() as reader:
        before = os.fstat(reader.fileno()).st_ino
        file.touch()

        assert len(reader.read()) == len(path.read_text())
        assert path.stat().st_ino != before


def test_nothing_else_is_left_in_the_directory(path):
    file = HealthFile(path)
    file.touch()
    file.touch()
    assert list(path.parent.iterdir()) == [path]

    file.remove()
    assert list(path.parent.iterdir()) == []


def test_what_a_dead_worker_with_the_same_process_id_has_left_does_not_matter(path):
    file = HealthFile(path)
    path.with_name(f".health.{os.getpid()}").write_text("half of a li")
    path.write_text("2001-09-09T01:46:40+00:00\n")

    file.touch()

    assert datetime.fromisoformat(path.read_text().strip()).year > 2001
    assert list(path.parent.iterdir()) == [path]


def test_a_link_that_somebody_has_laid_is_not_followed(path, tmp_path):
    treasure = tmp_path / "treasure"
    treasure.write_text("gold")
    path.symlink_to(treasure)
    path.with_name(f".health.{os.getpid()}").symlink_to(treasure)

    HealthFile(path).touch()

    assert treasure.read_text() == "gold"
    assert not path.is_symlink()


def test_removing_what_is_not_there_is_fine(path, caplog):
    HealthFile(path).remove()

    assert not caplog.records


def test_a_read_only_file_system_is_logged_once(path, refusal, caplog):
    file = HealthFile(path)
    for _ in range(3):
        file.touch()

    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"The health file {path} cannot be kept: Read-only file system"


def test_it_is_logged_again_when_it_had_worked_meanwhile(path, refusal, caplog):
    file = HealthFile(path)
    file.touch()
    error, refusal["error"] = refusal["error"], None
    file.touch()
    refusal["error"] = error
    file.touch()

    assert len(caplog.records) == 2


def test_a_directory_that_is_missing_is_logged_and_not_made(tmp_path, caplog):
    file = HealthFile(tmp_path / "missing" / "health")
    file.touch()
    file.remove()

    assert "No such file or directory" in caplog.text
    assert not (tmp_path / "missing").exists()


def test_a_directory_in_its_place_is_left_alone(path, caplog):
    path.mkdir()
    file = HealthFile(path)
    file.touch()
    file.remove()

    assert len(caplog.records) == 1
    assert path.is_dir()
    assert list(path.parent.iterdir()) == [path]
