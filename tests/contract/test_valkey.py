"""The contract in Valkey."""

import pytest

from tests.contract.valkey import ValkeyContract


class TestValkey(ValkeyContract):
    @pytest.fixture
    def server(self, valkey_server):
        return valkey_server
