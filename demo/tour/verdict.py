"""The demo's own check: what came of the programme, against what a correct queue makes of it."""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from statistics import median
from typing import Any, NamedTuple

from django.conf import settings

from library import programme, tasks, texts
from library.backend import backend
from library.models import Count, Mail, Report, Run
from library.programme import Programme

MAILERS = (tasks.send_letter, tasks.send_reminder, tasks.send_digest, tasks.send_receipt)
SVG = "{http://www.w3.org/2000/svg}svg"
CLOCK = timedelta(milliseconds=5)
"""How exact SQLite's clock is, and some."""


class Finding(NamedTuple):
    """A statement about the run, and what is wrong with it, if anything is."""

    statement: str
    problem: str = ""


def findings(done: Programme) -> list[Finding]:
    """Return the statements in the order in which they are checked."""
    checks: list[tuple[str, Callable[[Programme], Iterator[str]]]] = [
        ("Every task ended, and none ran twice", _every_task_ended_once),
        ("Those that had to fail did, and no other", _failures),
        ("Equal unique tasks were refused, and no other", _refusals),
        ("There is a mail for every task that sends one", _mails),
        ("The words were counted, and counted right", _counts),
        ("The reports are there", _reports),
        ("No delayed task started early", _delays),
        ("Urgent letters went out before circulars", _priorities),
    ]
    return [Finding(statement, "; ".join(check(done))) for statement, check in checks]


def mails_on_disk() -> tuple[int, int]:
    """Return how many mails the e-mail backend wrote, and into how many files."""
    files = list(settings.MAIL_DIR.glob("*.log"))
    return sum(file.read_bytes().count(b"\nMessage-ID: ") for file in files), len(files)


def _every_task_ended_once(done: Programme) -> Iterator[str]:
    runs = Counter(Run.objects.values_list("task_id", flat=True))
    missing = [result for result in done.enqueued if result.id not in runs]
    if missing:
        names = Counter(result.task.name for result in missing)
        yield "missing are " + _listed(names)
    if len(runs) != done.total:
        yield f"{len(runs)} tasks ended, not {done.total}"
    if queues := backend().broker.queues():
        yield f"the queues {', '.join(queues)} still hold tasks"


def _failures(done: Programme) -> Iterator[str]:
    expected = {result.id for result in done.doomed}
    failed = {task.id for task in backend().broker.failed(done.total)}
    journal = set(Run.objects.exclude(failure="").values_list("task_id", flat=True))
    if failed != expected:
        yield f"the failed list has {len(failed)} entries, of which {len(failed & expected)} are expected"
    if journal != failed:
        yield f"the journal has {len(journal)} failures"


def _refusals(done: Programme) -> Iterator[str]:
    yield from _differences(done.expected_refusals, done.refused)


def _mails(done: Programme) -> Iterator[str]:
    names = {task.name for task in MAILERS}
    expected = Counter((result.task.name, result.args[0]) for result in done.sound if result.task.name in names)
    yield from _differences(expected, Counter(Mail.objects.values_list("kind", "to")))
    on_disk, _ = mails_on_disk()
    if on_disk != expected.total():
        yield f"{on_disk} mails on disk, not {expected.total()}"


def _counts(done: Programme) -> Iterator[str]:
    expected = Counter[tuple[str, str, int]]()
    for result in done.sound:
        expected.update(_counts_of(result.task.name, result.args))
    yield from _differences(expected, Counter(Count.objects.values_list("text", "word", "times")))


def _counts_of(task: str, args: list[Any]) -> list[tuple[str, str, int]]:
    if task == tasks.count_word.name:
        text, word = args
        return [(text, word, texts.words(text)[word])]
    if task == tasks.count_letters.name:
        text, letter = args
        return [(text, letter, texts.letters(text)[letter])]
    if task == tasks.measure.name:
        return [(args[0], "", texts.words(args[0]).total())]
    if task == tasks.concordance.name:
        return [(args[0], word, times) for word, times in texts.commonest(args[0], tasks.FAN_OUT)]
    return []


def _reports(done: Programme) -> Iterator[str]:
    charts = [f"{result.args[0]}.svg" for result in done.sound if result.task.name == tasks.draw_chart.name]
    expected = Counter([*charts, "index.html"])
    yield from _differences(expected, Counter(Report.objects.values_list("file", flat=True)))
    yield from _differences(Counter(set(expected)), Counter(path.name for path in settings.REPORT_DIR.glob("*")))
    for chart in charts:
        path = settings.REPORT_DIR / chart
        if path.exists() and ET.parse(path).getroot().tag != SVG:  # noqa: S314 - written by our own task
            yield f"{chart} is not a chart"


def _delays(done: Programme) -> Iterator[str]:
    started = dict(Run.objects.values_list("task_id", "started_at"))
    for result in done.sound:
        due = result.task.run_after
        if due is not None and result.id in started and started[result.id] < due - CLOCK:
            yield f"{result.task.name} started {due - started[result.id]} before its time"


def _priorities(done: Programme) -> Iterator[str]:
    urgent, circular = (waiting(done, priority) for priority in (programme.URGENT, programme.CIRCULAR))
    if urgent >= circular > 0:
        yield f"urgent letters waited {urgent:.2f} s, circulars {circular:.2f} s (median)"


def waiting(done: Programme, priority: int) -> float:
    """Return the median of the seconds that the letters of a priority waited."""
    waited = {run.task_id: run.waited for run in Run.objects.filter(task=tasks.send_letter.module_path)}
    letters = [result for result in done.sound if result.task.name == tasks.send_letter.name]
    return median([waited[r.id] for r in letters if r.task.priority == priority and r.id in waited] or [0.0])


def _differences[T](expected: Counter[T], found: Counter[T]) -> Iterator[str]:
    if missing := expected - found:
        yield f"{missing.total()} missing, such as {_listed(missing)}"
    if surplus := found - expected:
        yield f"{surplus.total()} too many, such as {_listed(surplus)}"


def _listed[T](counts: Counter[T]) -> str:
    return ", ".join(f"{count} × {item}" for item, count in counts.most_common(3))
