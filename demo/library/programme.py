"""A mixed bunch of tasks, in every way of enqueueing them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.tasks import TaskResult

from django_vtasks import VTask
from library import texts
from library.backend import backend
from library.tasks import (
    FAN_OUT,
    concordance,
    count_letters,
    count_word,
    draw_chart,
    measure,
    nap,
    send_digest,
    send_letter,
    send_receipt,
    send_reminder,
    slam_the_door,
    write_index,
)

type Result = TaskResult
type Call = tuple[VTask[..., Any], tuple[Any, ...], dict[str, Any]]

URGENT, CIRCULAR = 50, -50
DELAY = timedelta(seconds=2)
INDEX_REQUESTS = 20
DIGEST_REQUESTS = 4
NAPS = 4
LOOKED_UP = ("all", "and", "day", "her", "his", "man", "not", "out", "own", "sea", "the", "was")
"""Short words, which concordance() leaves out."""
VOWELS = "aeiou"


@dataclass
class Programme:
    """What was enqueued, and what a correct queue makes of it."""

    sound: list[Result] = field(default_factory=list)
    doomed: list[Result] = field(default_factory=list)
    """Accepted, and bound to fail."""
    refused: Counter[str] = field(default_factory=Counter)
    """How many duplicates of each task were refused."""
    expected_refusals: Counter[str] = field(default_factory=Counter)

    @property
    def enqueued(self) -> list[Result]:
        """Return all that was accepted."""
        return self.sound + self.doomed

    @property
    def total(self) -> int:
        """Return how many tasks there will have been when those that fan out have done so."""
        fans = sum(result.task.name == concordance.name for result in self.sound)
        return len(self.enqueued) + FAN_OUT * fans

    def add(self, task: VTask[..., Any], results: list[Result | None]) -> None:
        """Take what enqueue() returned; None stands for a duplicate that was refused."""
        self.sound += [result for result in results if result is not None]
        if refused := results.count(None):
            self.refused[task.name] += refused


def enqueue(readers: int) -> Programme:
    """Enqueue the whole programme for so many readers."""
    programme = Programme()
    _write_letters(programme, readers)
    _count_words(programme)
    _count_vowels(programme)
    _draw(programme)
    _ask_for_one_index(programme)
    _send_news(programme, readers // 6)
    _remind(programme, readers // 6)
    receipts: list[Call] = [(send_receipt, (reader,), {}) for reader in _readers(readers // 3)]
    programme.add(send_receipt, backend().enqueue_many(receipts))
    _cause_trouble(programme)
    return programme


def _readers(count: int) -> Iterator[str]:
    return (f"reader{number:02}@example.com" for number in range(1, count + 1))


def _write_letters(programme: Programme, readers: int) -> None:
    """Enqueue in bulk, the least urgent first: the worker begins with the urgent ones all the same."""
    circular, urgent = send_letter.using(priority=CIRCULAR), send_letter.using(priority=URGENT)
    calls: list[Call] = [
        *[(circular, (reader, "Our opening hours", "Nine to five."), {}) for reader in _readers(readers)],
        *[(send_letter, (reader, "Welcome", "Come and read."), {}) for reader in _readers(readers)],
        *[(send_letter, (reader, "Your card", "It is ready."), {}) for reader in _readers(readers)],
        *[(urgent, (reader, "You forgot your umbrella", "It rains."), {}) for reader in _readers(readers // 3)],
    ]
    programme.add(send_letter, backend().enqueue_many(calls))


def _count_words(programme: Programme) -> None:
    """Enqueue single words in bulk, and tasks that enqueue further ones themselves."""
    calls: list[Call] = [(count_word, (text, word), {}) for text in texts.names() for word in LOOKED_UP]
    programme.add(count_word, backend().enqueue_many(calls))
    programme.add(measure, [measure.enqueue(text) for text in texts.names()])
    programme.add(concordance, [concordance.enqueue(text) for text in texts.names()])


def _count_vowels(programme: Programme) -> None:
    """Enqueue a task for each vowel of each text; the worker collects them, and counts in few calls."""
    calls: list[Call] = [(count_letters, (text, vowel), {}) for text in texts.names() for vowel in VOWELS]
    programme.add(count_letters, backend().enqueue_many(calls))


def _draw(programme: Programme) -> None:
    programme.add(draw_chart, [draw_chart.enqueue(text) for text in texts.names()])
    programme.add(nap, [nap.enqueue(0.2) for _ in range(NAPS)])


def _ask_for_one_index(programme: Programme) -> None:
    """Ask again while the first is under way; the transaction keeps it there on the slowest machine."""
    with transaction.atomic():
        programme.add(write_index, [write_index.using(run_after=DELAY).enqueue() for _ in range(INDEX_REQUESTS)])
    programme.expected_refusals[write_index.name] += INDEX_REQUESTS - 1


def _send_news(programme: Programme, readers: int) -> None:
    """Ask for each reader's digest several times: throttled to one, running, finished or not."""
    for reader in _readers(readers):
        programme.add(send_digest, [send_digest.enqueue(reader) for _ in range(DIGEST_REQUESTS)])
        programme.expected_refusals[send_digest.name] += DIGEST_REQUESTS - 1


def _remind(programme: Programme, readers: int) -> None:
    later = send_reminder.using(run_after=DELAY)
    programme.add(later, [later.enqueue(reader) for reader in _readers(readers)])


def _cause_trouble(programme: Programme) -> None:
    """Enqueue what must fail, without hurting anybody else."""
    lost = [count_word.enqueue("lost-manuscript", word) for word in LOOKED_UP[:3]]
    undeliverable = [send_letter.enqueue(to, "Hello", "Who are you?") for to in ("nobody", "no one")]
    miscounted = backend().enqueue_many([(count_letters, ("lost-manuscript", "e"), {})])
    results: list[Result | None] = [*lost, *undeliverable, *miscounted, slam_the_door.enqueue()]
    programme.doomed += [result for result in results if result is not None]
