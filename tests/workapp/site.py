"""A site of a few pages with the worker in its process: what an ASGI server is told to serve."""

import time

from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django_prometheus.exports import ExportToDjangoView

from django_vtasks.asgi import get_worker_application

application = get_worker_application(get_asgi_application())

# What these pages use is imported above, once Django is set up.
from tests.workapp import tasks  # noqa: E402


def enqueue(request: HttpRequest, name: str, key: str) -> JsonResponse:
    return JsonResponse({"id": getattr(tasks, name).enqueue(key).id})


async def aenqueue(request: HttpRequest, name: str, key: str) -> JsonResponse:
    return JsonResponse({"id": (await getattr(tasks, name).aenqueue(key)).id})


async def block(request: HttpRequest, seconds: int) -> JsonResponse:
    """Hold up the loop, and all that runs there."""
    time.sleep(seconds)  # noqa: ASYNC251
    return JsonResponse({"blocked": seconds})


urlpatterns = [
    path("enqueue/<name>/<key>/", enqueue),
    path("aenqueue/<name>/<key>/", aenqueue),
    path("block/<int:seconds>/", block),
    path("metrics", ExportToDjangoView),
]
