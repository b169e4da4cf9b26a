"""The contract in a Valkey cluster, of which the URL names a node that does not have the keys."""

import pytest

from django_vtasks.brokers.valkey import ValkeyBroker
from tests import clusters
from tests.contract.valkey import PREFIX, ValkeyBackdoor, ValkeyContract


class ClusterBackdoor(ValkeyBackdoor):
    def __init__(self, cluster, failed_cap):
        super().__init__(cluster.primary, failed_cap)
        self._stranger = cluster.stranger

    def make(self):
        return ValkeyBroker(self._stranger, prefix=PREFIX, failed_cap=self._failed_cap, is_cluster=True)


@pytest.fixture(scope="module")
def cluster():
    with clusters.running(PREFIX) as cluster:
        yield cluster


class TestValkeyCluster(ValkeyContract):
    @pytest.fixture
    def backdoor(self, cluster, failed_cap):
        backdoor = ClusterBackdoor(cluster, failed_cap)
        yield backdoor
        backdoor.close()
