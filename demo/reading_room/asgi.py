"""The pages and the worker in one process: uvicorn reading_room.asgi:application."""

import os

from django.core.asgi import get_asgi_application

from django_vtasks.asgi import get_worker_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reading_room.settings")

application = get_worker_application(get_asgi_application())
