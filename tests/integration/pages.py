"""What a worker's pages say."""

import contextlib
import http.client
import json
from typing import Any

from tests.integration.probes import eventually


class Pages:
    """The pages behind a port; a page that cannot be had has the status 0."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the content of a page."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            with contextlib.closing(connection):
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            return 0, {}

    def status(self, path: str) -> int:
        """Return the status of a page."""
        return self.get(path)[0]

    def until(self, path: str, status: int) -> dict[str, Any]:
        """Wait until a page has this status; return its content."""

        def answer() -> dict[str, Any]:
            seen, content = self.get(path)
            return content if seen == status else {}

        return eventually(answer, f"{path} says {status}")
