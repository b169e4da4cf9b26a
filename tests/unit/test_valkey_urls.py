"""What may stand in the URL of a Valkey server, behind the question mark."""

import pytest

from django_vtasks.brokers.valkey.connector import check_url
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
