"""The contract in a Redis that speaks Valkey's language."""

import pytest

from tests.contract.valkey import ValkeyContract


class TestRedis(ValkeyContract):
    @pytest.fixture
    def server(self, redis_server):
        return redis_server
