"""What the demo says at its end."""

from collections import Counter
from pathlib import Path

from django.conf import settings
from django.db.models import QuerySet

from library import programme
from library.backend import backend
from library.models import Run
from library.programme import Programme
from tour import verdict

type Lines = list[str]


def of(done: Programme) -> str:
    """Return the summary of a finished programme."""
    sections = [_table(), _failures(), _refusals(done), _speed(done), _places()]
    return "\n".join(line for section in sections if section for line in [*section, ""])


def _table() -> Lines:
    done = _by_name(Run.objects.filter(failure=""))
    failed = _by_name(Run.objects.exclude(failure=""))
    rows: list[tuple[str, object, object]] = [("task", "done", "failed")]
    rows += [(name, done[name], failed[name] or "") for name in sorted(done | failed)]
    rows += [("all together", done.total(), failed.total())]
    return [f"  {name:<16}{done:>7}{failed:>9}".rstrip() for name, done, failed in rows]


def _by_name(runs: QuerySet[Run]) -> Counter[str]:
    return Counter(run.name for run in runs)


def _failures() -> Lines:
    failed = backend().broker.failed(1000)
    if not failed:
        return []
    reasons = Counter((task.task, task.failure.exception, task.failure.message) for task in failed)
    lines = [
        f"  {count} × {task.rpartition('.')[2]}: {exception.removeprefix('builtins.')}: {message}"
        for (task, exception, message), count in reasons.most_common()
    ]
    return ["Failed, and why:", *lines]


def _refusals(done: Programme) -> Lines:
    refused = ", ".join(f"{count} × {name}" for name, count in done.refused.items())
    return [f"Duplicates refused: {done.refused.total()} ({refused})"]


def _speed(done: Programme) -> Lines:
    delayed = [result.id for result in done.sound if result.task.run_after is not None]
    runs = list(Run.objects.exclude(task_id__in=delayed))
    if not runs:
        return []
    seconds = (max(run.finished_at for run in runs) - min(run.started_at for run in runs)).total_seconds()
    waits = [
        f"{name} {verdict.waiting(done, priority):.2f} s"
        for name, priority in (("urgent", programme.URGENT), ("ordinary", 0), ("circular", programme.CIRCULAR))
    ]
    return [
        f"Speed: {len(runs) / seconds:.0f} tasks/s, each with a mail, a row or a file (without the delayed ones)",
        f"Letters waited (median): {', '.join(waits)}",
    ]


def _places() -> Lines:
    mails, files = verdict.mails_on_disk()
    places = [
        ("Mails", settings.MAIL_DIR, f"  ({mails} in {files} files)"),
        ("Reports", settings.REPORT_DIR / "index.html", ""),
        ("Log", settings.VAR / "worker.log", ""),
    ]
    return [f"{name:<9}{shown(path)}{remark}" for name, path, remark in places if path.exists()]


def shown(path: Path) -> str:
    """Return a path as short as it can be copied from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
