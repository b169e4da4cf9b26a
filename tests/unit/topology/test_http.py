"""Pages for probes and Prometheus."""

import contextlib
import errno
import http.client
import logging
import selectors
import socket
import threading
import time
from http.server import ThreadingHTTPServer

import pytest

from django_vtasks.topology import http as topology_http
from django_vtasks.topology.http import MOST_CONNECTIONS, Endpoint, Response

PATIENCE = 10
LARGE = b"x" * 50_000_000


def live(accept):
    return Response(200, "alive\n")


def health(accept):
    return Response(503, b'{"ok": false}', "application/json")


def secret_failure(accept):
    raise RuntimeError("secret")


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def serve(routes=None, host="127.0.0.1"):
            endpoint = Endpoint(0, {"/live": live} if routes is None else routes, host)
            endpoint.start()
            stack.callback(endpoint.stop)
            return endpoint

        yield serve


@pytest.fixture
def hurry(monkeypatch):
    monkeypatch.setattr(topology_http, "TIMEOUT", 0.5)


def ask(endpoint, path, method="GET", host="127.0.0.1"):
    with contextlib.closing(http.client.HTTPConnection(host, endpoint.port, timeout=PATIENCE)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def connect(endpoint):
    return socket.create_connection(("127.0.0.1", endpoint.port), timeout=PATIENCE)


def say(endpoint, text):
    with connect(endpoint) as client:
        client.sendall(text)
        return rest(client)


def rest(client):
    """Return what comes until the server ends the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := client.recv(1_000_000):
            received += part
    return received


# Answers --------------------------------------------------------------------------------------------------------------


def test_a_path_answers_with_the_status_body_and_type_of_its_route(serve):
    endpoint = serve({"/live": live, "/health": health})

    status, body, headers = ask(endpoint, "/live")
    assert (status, body, headers["Content-Type"]) == (200, b"alive\n", "text/plain; charset=utf-8")
    status, body, headers = ask(endpoint, "/health")
    assert (status, body, headers["Content-Type"]) == (503, b'{"ok": false}', "application/json")
    assert headers["Cache-Control"] == "no-store"


def test_a_query_does_not_change_the_path(serve):
    assert ask(serve(), "/live?verbose=1")[0] == 200


def test_head_has_the_headers_and_no_body(serve):
    status, body, headers = ask(serve(), "/live", "HEAD")

    assert (status, body, headers["Content-Length"]) == (200, b"", "6")


def test_elsewhere_is_nothing_but_the_list_of_paths(serve):
    status, body, headers = ask(serve({"/ready": live, "/live": live}), "/<script>")

    assert status == 404
    assert body == b"There is nothing here. The paths:\n/live\n/ready\n"
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "NONSENSE"])
def test_other_methods_are_not_allowed(serve, method):
    status, body, headers = ask(serve(), "/live", method)

    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert method.encode() not in body


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET\r\n\r\n", b"400"),
        (b"GET /live HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /live HTTP/1.0\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    ],
)
def test_nonsense_is_refused_in_plain_words(serve, request_text, status):
    endpoint = serve()

    answer = say(endpoint, request_text)

    assert answer.startswith(b"HTTP/1.0 " + status)
    assert b"<" not in answer
    assert ask(endpoint, "/live")[0] == 200


def test_no_answer_tells_what_serves_it(serve):
    endpoint = serve({"/live": live, "/fail": secret_failure})

    for path, method in [("/live", "GET"), ("/none", "GET"), ("/fail", "GET"), ("/live", "POST")]:
        assert "Server" not in ask(endpoint, path, method)[2]


def test_a_route_that_raises_is_an_error_whose_cause_only_the_log_knows(serve, caplog):
    endpoint = serve({"/fail": secret_failure})

    status, body, _ = ask(endpoint, "/fail")

    assert status == 500
    assert b"secret" not in body
    assert "RuntimeError: secret" in caplog.text


def test_a_route_that_goes_on_raising_is_logged_in_one_line_each_time_until_it_has_worked(serve, caplog):
    answers = iter([ValueError, ValueError, ValueError, None, ValueError])

    def moody(accept):
        if failure := next(answers):
            raise failure
        return live(accept)

    endpoint = serve({"/moody": moody})
    statuses = [ask(endpoint, "/moody")[0] for _ in range(5)]

    assert statuses == [500, 500, 500, 200, 500]
    assert [record.getMessage() for record in caplog.records] == [
        "/moody failed",
        "/moody failed, 2 times in a row",
        "/moody failed, 3 times in a row",
        "/moody failed",
    ]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False, True]


def test_requests_are_logged_for_debugging_only(serve, caplog):
    caplog.set_level(logging.INFO)
    endpoint = serve()
    ask(endpoint, "/live")
    say(endpoint, b"GET\r\n\r\n")
    assert not caplog.records

    caplog.set_level(logging.DEBUG)
    ask(endpoint, "/live")
    assert '"GET /live HTTP/1.1" 200 6' in caplog.text


# Addresses ------------------------------------------------------------------------------------------------------------


def test_the_port_is_the_real_one_once_started():
    endpoint = Endpoint(0, {"/live": live}, "127.0.0.1")
    assert endpoint.port == 0

    endpoint.start()
    assert endpoint.port > 0

    endpoint.stop()
    assert endpoint.port == 0


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="This system has no IPv6.")
def test_without_a_host_it_answers_on_ipv4_and_ipv6(serve):
    endpoint = serve(host="")

    assert ask(endpoint, "/live", host="127.0.0.1")[0] == 200
    assert ask(endpoint, "/live", host="::1")[0] == 200


def test_where_ipv6_is_switched_off_ipv4_will_do(serve, monkeypatch):
    create_server = socket.create_server

    def no_ipv6(address, *, family, **options):
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return create_server(address, family=family, **options)

    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    monkeypatch.setattr(socket, "create_server", no_ipv6)

    assert ask(serve(host=""), "/live")[0] == 200


def test_a_system_without_ipv6_is_served_on_ipv4(serve, monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)

    assert ask(serve(host=""), "/live")[0] == 200


def test_a_host_may_be_a_name(serve):
    assert ask(serve(host="localhost"), "/live", host="localhost")[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_in_use_is_an_error_that_names_it(serve, host):
    port = serve(host="").port

    with pytest.raises(OSError, match=rf"{host or '[*]'}:{port}: .*in use") as caught:
        Endpoint(port, {}, host).start()

    assert caught.value.errno == errno.EADDRINUSE


def test_an_address_that_is_not_ours_is_an_error_that_names_it():
    with pytest.raises(OSError, match=r"192\.0\.2\.1:8000: Cannot assign"):
        Endpoint(8000, {}, "192.0.2.1").start()


def test_a_name_that_nobody_knows_is_an_error_that_names_it(monkeypatch):
    def unknown(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(OSError, match="no-such-host:8000: Name or service not known"):
        Endpoint(8000, {}, "no-such-host").start()


# Start and stop -------------------------------------------------------------------------------------------------------


def test_starting_twice_and_stopping_twice_is_doing_it_once(serve):
    endpoint = serve()
    port = endpoint.port
    endpoint.start()
    assert endpoint.port == port

    endpoint.stop()
    endpoint.stop()
    Endpoint(0, {}).stop()


def test_it_stops_within_a_second_and_frees_its_port_though_clients_hang_on(serve):
    endpoint = serve()
    port = endpoint.port
    with connect(endpoint) as silent:
        ask(endpoint, "/live")
        began = time.monotonic()
        endpoint.stop()

        assert time.monotonic() - began < 1
        assert rest(silent) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def test_it_stops_within_a_second_though_a_route_hangs(serve):
    called, released = threading.Event(), threading.Event()

    def hang(accept):
        called.set()
        released.wait(PATIENCE)
        return live(accept)

    endpoint = serve({"/hang": hang})
    with connect(endpoint) as client:
        client.sendall(b"GET /hang HTTP/1.0\r\n\r\n")
        assert called.wait(PATIENCE)
        began = time.monotonic()
        endpoint.stop()

        assert time.monotonic() - began < 1
        assert rest(client) == b""
    released.set()


def test_it_can_be_started_again(serve):
    endpoint = serve()
    endpoint.stop()
    endpoint.start()

    assert ask(endpoint, "/live")[0] == 200


def test_idle_it_sleeps_until_somebody_comes(serve, monkeypatch):
    waits = []

    class Selector(selectors.DefaultSelector):
        def select(self, timeout=None):
            waits.append(timeout)
            return super().select(timeout)

    monkeypatch.setattr(selectors, "DefaultSelector", Selector)
    endpoint = serve()
    ask(endpoint, "/live")
    endpoint.stop()

    assert waits[0] is None
    assert len(waits) <= 3, "once before the connection, once after it, once more if that has ended by then"


# Clients that hold it up ----------------------------------------------------------------------------------------------


def test_a_client_that_says_nothing_is_cut_off(serve, hurry):
    with connect(serve()) as client:
        assert rest(client) == b""


def test_a_client_that_never_ends_its_request_is_cut_off(serve, hurry):
    with connect(serve()) as client:
        client.settimeout(0.01)
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                client.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    if client.recv(1) == b"":
                        break

        assert time.monotonic() < deadline


def test_a_client_that_does_not_read_is_cut_off(serve, hurry):
    threads = []

    def large(accept):
        threads.append(threading.current_thread())
        return Response(200, LARGE)

    endpoint = serve({"/large": large})
    with connect(endpoint) as client:
        client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        assert client.recv(1) == b"H"
        threads[0].join(PATIENCE)

        assert not threads[0].is_alive()
        assert len(rest(client)) < len(LARGE)


def test_a_route_that_takes_too_long_costs_nothing_more_after_its_connection_was_cut_off(serve, hurry, monkeypatch):
    released = threading.Event()
    patience = []

    def hang(accept):
        released.wait(PATIENCE)
        return live(accept)

    original = topology_http._Server._patience

    def noting(server):
        patience.append(original(server))
        return patience[-1]

    monkeypatch.setattr(topology_http._Server, "_patience", noting)
    endpoint = serve({"/hang": hang, "/live": live})
    assert say(endpoint, b"GET /hang HTTP/1.0\r\n\r\n") == b""
    monkeypatch.setattr(topology_http, "TIMEOUT", PATIENCE)
    assert ask(endpoint, "/live")[0] == 200
    endpoint.stop()
    released.set()

    assert patience.count(0.0) <= 1
    assert len(patience) <= 6


def test_a_large_answer_reaches_a_client_that_reads(serve):
    assert ask(serve({"/large": lambda _: Response(200, LARGE)}), "/large")[1] == LARGE


def test_beyond_the_most_connections_at_a_time_a_client_is_turned_away_at_once(serve):
    endpoint = serve()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(endpoint)) for _ in range(MOST_CONNECTIONS)]
        began = time.monotonic()
        assert say(endpoint, b"") == b""
        assert time.monotonic() - began < topology_http.TIMEOUT / 2

        clients[0].sendall(b"GET /live HTTP/1.0\r\n\r\n")
        assert rest(clients[0]).endswith(b"alive\n")
        assert eventually(lambda: say(endpoint, b"GET /live HTTP/1.0\r\n\r\n").endswith(b"alive\n"))


def test_without_file_descriptors_it_waits_for_some(serve, monkeypatch):
    refusals = iter([OSError(errno.EMFILE, "Too many open files"), BlockingIOError()])
    accept = ThreadingHTTPServer.get_request

    def refuse(server):
        if refusal := next(refusals, None):
            raise refusal
        return accept(server)

    monkeypatch.setattr(ThreadingHTTPServer, "get_request", refuse)

    assert ask(serve(), "/live")[0] == 200


def eventually(look):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if seen := look():
            return seen
    raise AssertionError("It did not come in time.")
