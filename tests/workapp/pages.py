"""The same site without a worker in its process."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
