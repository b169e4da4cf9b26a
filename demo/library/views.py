"""One page: a button that enqueues, and what has become of it."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from library import programme, texts
from library.backend import backend
from library.models import Count, Mail, Run

READERS = 12


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show the queues, the charts and the latest results; while there is work, show them again and again."""
    broker = backend().broker
    depths = {queue: broker.depth(queue) for queue in settings.VTASKS_QUEUES}
    context = {
        "depths": depths.items(),
        "busy": bool(broker.queues()),
        "failed": broker.failed(5),
        "failed_count": broker.failed_count(),
        "runs": Run.objects.order_by("-id")[:20],
        "run_count": Run.objects.count(),
        "mail_count": Mail.objects.count(),
        "count_count": Count.objects.count(),
        "charts": [f"{text}.svg" for text in texts.names() if (settings.REPORT_DIR / f"{text}.svg").exists()],
        "has_index": (settings.REPORT_DIR / "index.html").exists(),
    }
    return render(request, "library/home.html", context)


@require_POST
def more(request: HttpRequest) -> HttpResponse:
    """Enqueue a mixed bunch."""
    enqueued = programme.enqueue(READERS)
    messages.info(request, f"{len(enqueued.enqueued)} tasks enqueued, {enqueued.refused.total()} duplicates refused.")
    return redirect("home")
