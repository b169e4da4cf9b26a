"""A few pages over HTTP, for probes and Prometheus: idle it costs nothing, and no client can hold it up."""

import contextlib
import errno
import logging
import math
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

logger = logging.getLogger(__name__)

TIMEOUT = 5.0
"""Seconds that a connection may last, from its beginning to its end."""
MOST_CONNECTIONS = 16
STOP_WITHIN = 1.0
BREATH = 0.1
"""Seconds to wait when a connection cannot be accepted, usually for want of file descriptors."""

type Route = Callable[[str], Response]
"""Called with the request's ``Accept`` header."""
type Address = tuple[socket.AddressFamily, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What a route answers."""

    status: int
    body: bytes | str
    content_type: str = "text/plain; charset=utf-8"


class Endpoint:
    """Serves ``routes``, path → function, to GET and HEAD, in daemon threads.

    A function is called in the thread of its connection; when it raises, the answer is 500 and the log says why.
    An empty ``host`` means all addresses, of IPv4 and IPv6 where there are both. Port 0 means any that is free.
    """

    def __init__(self, port: int, routes: Mapping[str, Route], host: str = "") -> None:
        self._port = port
        self._routes = routes
        self._host = host
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """Return the port: that asked for, or the real one as soon as the endpoint has been started."""
        return self._server.server_port if self._server else self._port

    def start(self) -> None:
        """Serve from now on; raise OSError naming the address if it cannot be had."""
        if self._server is None:
            self._server = _Server(listen(self._host, self._port), self._routes)
            self._server.start()

    def stop(self) -> None:
        """Close the port and all connections, within a second."""
        if self._server is not None:
            self._server.stop()
            self._server = None


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the host's first address that this system has; raise OSError naming it."""
    try:
        return _first_that_listens(_addresses(host, port), port)
    except OSError as error:
        raise OSError(error.errno, f"Cannot listen on {host or '*'}:{port}: {error.strerror}") from error


def _addresses(host: str, port: int) -> Iterable[Address]:
    if host:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found)
    both = [(socket.AF_INET6, "")] if socket.has_dualstack_ipv6() else []
    return [*both, (socket.AF_INET, "")]


def _first_that_listens(addresses: Iterable[Address], port: int) -> socket.socket:
    failure: OSError | None = None
    for family, address in addresses:
        both = family == socket.AF_INET6 and not address
        try:
            return socket.create_server((address, port), family=family, dualstack_ipv6=both)
        except OSError as error:
            # IPv6 may be compiled in and switched off; but what is in use must not be half ours.
            if error.errno == errno.EADDRINUSE:
                raise
            failure = failure or error
    assert failure is not None
    raise failure


class _Server(ThreadingHTTPServer):
    """Waits without polling, and ends each connection in time."""

    daemon_threads = True
    timeout = 0  # handle_request() is called when there is one

    def __init__(self, listener: socket.socket, routes: Mapping[str, Route]) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.socket.settimeout(0)
        self.server_port = listener.getsockname()[1]
        self.routes = routes
        self._failures: dict[str, int] = {}
        self._deadlines: dict[Any, float | None] = {}
        """Of each open connection; None once it has been cut off."""
        self._lock = threading.Lock()
        self._stopping = False
        self._bell, self._button = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"vtasks-http-{self.server_port}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._button.send(b".")
        self._thread.join(STOP_WITHIN)
        self.server_close()
        self._cut_off(until=math.inf)
        self._bell.close()
        self._button.close()

    def call(self, path: str, accept: str) -> Response:
        """Return the answer of the path's route."""
        try:
            response = self.routes[path](accept)
        except Exception:
            self._failures[path] = count = self._failures.get(path, 0) + 1
            if count == 1:
                logger.exception("%s failed", path)
            else:
                logger.error("%s failed, %d times in a row", path, count)  # noqa: TRY400 - the first had the traceback
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR, "This failed; the log says why.\n")
        self._failures.pop(path, None)
        return response

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(BREATH)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return len(self._deadlines) < MOST_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._deadlines[request] = time.monotonic() + TIMEOUT
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._deadlines.pop(request, None)
            super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("The connection from %s broke", client_address, exc_info=sys.exception())

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select(self._patience()):
                    if key.fileobj is self.socket:
                        self.handle_request()
                self._cut_off(until=time.monotonic())

    def _patience(self) -> float | None:
        """Return the seconds until a connection is to be cut off; None if there is none."""
        with self._lock:
            first = min((deadline for deadline in self._deadlines.values() if deadline is not None), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def _cut_off(self, *, until: float) -> None:
        """End the connections whose time was up by then; their threads notice, whatever they are doing with them."""
        with self._lock:
            for request, deadline in self._deadlines.items():
                if deadline is not None and deadline <= until:
                    self._deadlines[request] = None
                    with contextlib.suppress(OSError):  # the client has gone
                        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in self.server.routes:
            self._send(self.server.call(path, self.headers.get("Accept", "")))
        else:
            known = "\n".join(sorted(self.server.routes))
            self._send(Response(HTTPStatus.NOT_FOUND, f"There is nothing here. The paths:\n{known}\n"))

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the base class finds wrong, in plain text; it calls a method without do_… not implemented."""
        self.request_version = self.protocol_version  # until then HTTP/0.9, which has no status
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._send(Response(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only.\n"), Allow="GET, HEAD")
        else:
            self._send(Response(code, f"{HTTPStatus(code).phrase}.\n"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        logger.debug("%s %r", self.address_string(), format % args)

    def _send(self, response: Response, **headers: str) -> None:
        body = response.body.encode() if isinstance(response.body, str) else response.body
        self.log_request(response.status, len(body))
        # send_response() would add the versions of this server and of Python.
        self.send_response_only(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
