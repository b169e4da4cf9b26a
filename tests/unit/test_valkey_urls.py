"""What may stand in the URL of a Valkey server, behind the question mark."""

import pytest

from django_vtasks.brokers.valkey.connector import Connector, check_url
from django_vtasks.errors import ConfigError


@pytest.mark.parametrize(
    "url",
    [
        "valkey://localhost:6379/0",
        "rediss://user:word@example.com:6380?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem",
        "unix:///run/valkey.sock?db=3",
    ],
)
def test_options_of_place_and_safety_are_taken(url):
    check_url(url)


@pytest.mark.parametrize("option", ["retry_on_timeout", "retry_on_error", "socket_timeout", "max_connections", "typo"])
def test_an_option_that_would_undo_a_deadline_or_repeat_a_push_is_refused(option):
    with pytest.raises(ConfigError, match=f"must not have the option '{option}'") as caught:
        check_url(f"valkey://user:word@localhost?{option}=secret")
    assert "secret" not in str(caught.value)


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="'db', which must be a number"):
        check_url("unix:///run/valkey.sock?db=first")


@pytest.mark.parametrize(
    "url",
    [
        "valkey://:pa[secret]x@host/0",
        "valkey://user:secret\u2100word@host/0",
        "valkey://[::1",
        "valkey://user:123?secret=1@host/0",
        "valkey://host/0?ssl_secret=1",
    ],
)
def test_what_is_no_url_is_refused_without_showing_it(url):
    with pytest.raises(ConfigError) as raised:
        check_url(url)

    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert "secret" not in str(raised.value) or "ssl_secret" in str(raised.value)


def test_in_a_cluster_the_prefix_must_keep_the_keys_together():
    with pytest.raises(ConfigError, match="part in braces"):
        Connector("valkey://host:6379", "shop", is_cluster=True)
    Connector("valkey://host:6379", "{shop}", is_cluster=True)
    Connector("valkey://host:6379", "shop")
