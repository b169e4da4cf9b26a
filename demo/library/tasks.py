"""What the reading room leaves to its worker."""

import sys
import time
from typing import Any

from django.conf import settings
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.tasks import TaskContext
from django.template.loader import render_to_string

from django_vtasks import task
from library import charts, texts
from library.backend import backend
from library.models import Count, Mail, Report

FAN_OUT = 15
"""How many words concordance() looks up, each in a task of its own."""
DAY = 24 * 60 * 60

# Words ------------------------------------------------------------------------------------------------------------


@task
def measure(text: str) -> int:
    """Count all words of a text."""
    return Count.objects.create(text=text, times=texts.words(text).total()).times


@task
async def count_word(text: str, word: str) -> int:
    """Count a word in a text; ``async def`` runs on the worker's event loop, without a thread."""
    count = await Count.objects.acreate(text=text, word=word, times=texts.words(text)[word])
    return count.times


@task
async def concordance(text: str) -> int:
    """Fan out: enqueue a task for each of the text's commonest words, all of them in one statement."""
    words = texts.commonest(text, FAN_OUT)
    results = await backend().aenqueue_many((count_word, (text, word), {}) for word, _ in words)
    return len(results)


@task(queue_name="statistics")
def count_letters(members: list[dict[str, Any]]) -> dict[str, Exception]:
    """Count a letter in a text for each member: in a batch queue many are one call, and here one statement."""
    counts, errors = [], dict[str, Exception]()
    for member in members:
        text, letter = member["args"]
        try:
            counts.append(Count(text=text, word=letter, times=texts.letters(text)[letter]))
        except texts.NoSuchText as error:
            errors[member["id"]] = error
    Count.objects.bulk_create(counts)
    return errors


# Reports ----------------------------------------------------------------------------------------------------------


@task(priority=-10)
def draw_chart(text: str) -> None:
    """Draw the commonest words of a text; it can wait, hence the low priority."""
    _write(f"{text}.svg", charts.bar_chart(texts.title(text), texts.commonest(text, 10)))


@task(unique=True, priority=-20)
def write_index() -> None:
    """Write the page with all charts, after them; while one is under way, another one is refused."""
    drawn = [text for text in texts.names() if (settings.REPORT_DIR / f"{text}.svg").exists()]
    measured = dict(Count.objects.filter(word="").values_list("text", "times"))
    books = [{"file": f"{text}.svg", "title": texts.title(text), "words": measured.get(text)} for text in drawn]
    _write("index.html", render_to_string("library/index.html", {"books": books}))


# Mail -------------------------------------------------------------------------------------------------------------


@task(queue_name="emails")
def send_letter(to: str, subject: str, body: str) -> None:
    """Send a letter; the caller says with what priority."""
    _post("send_letter", to, subject, body)


@task(queue_name="emails")
def send_reminder(to: str) -> None:
    """Remind a reader; to be enqueued with ``run_after``."""
    _post("send_reminder", to, "Your books are due", "Please bring them back, or come and renew them.")


@task(queue_name="emails", unique=True, ttl=DAY, remove_unique_on_complete=False)
def send_digest(to: str) -> None:
    """Send the news, at most once a day to the same reader: refused until then, although this one has ended."""
    _post("send_digest", to, "News from the reading room", f"We now have {len(texts.names())} texts.")


@task(queue_name="emails", takes_context=True)
def send_receipt(context: TaskContext, to: str) -> None:
    """Tell a reader what a task knows about itself."""
    result = context.task_result
    body = f"Task {result.id}, attempt {context.attempt}, on {result.worker_ids[-1]}"
    _post("send_receipt", to, "Your receipt", body)


# Mischief ---------------------------------------------------------------------------------------------------------


@task
def slam_the_door() -> None:
    """Try to end the worker; all that ends is this task, as a failed one."""
    sys.exit("Slam!")


@task
def nap(seconds: float) -> None:
    """Take a while, so that the page has something to show as running."""
    time.sleep(seconds)


# ------------------------------------------------------------------------------------------------------------------


def _post(kind: str, to: str, subject: str, body: str) -> None:
    validate_email(to)
    send_mail(subject, body, "desk@reading-room.example", [to])
    Mail.objects.create(kind=kind, to=to, subject=subject)


def _write(file: str, content: str) -> None:
    settings.REPORT_DIR.mkdir(exist_ok=True)
    (settings.REPORT_DIR / file).write_text(content, encoding="utf-8")
    Report.objects.create(file=file)
