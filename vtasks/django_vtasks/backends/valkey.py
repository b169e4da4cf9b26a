"""Tasks in Valkey, or in a Redis that speaks the same."""

from functools import cache
from typing import Any

from django.core import checks
from django.core.signals import setting_changed

from django_vtasks import conf
from django_vtasks.backends.base import BrokerBackend
from django_vtasks.errors import ConfigError

try:
    from django_vtasks.brokers.valkey import ValkeyBroker
    from django_vtasks.brokers.valkey.connector import check_url
except ModuleNotFoundError as error:
    if error.name not in {"valkey", "libvalkey"}:
        raise
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

INSTALL = "pip install 'django-vtasks[valkey]'"


class ValkeyTaskBackend(BrokerBackend):
    """Enqueue to the server that ``OPTIONS["BROKER_URL"]`` names; inside a transaction, when it commits.

    With ``CLUSTER_MODE`` the URL is that of any node of a cluster. With ``MIN_REPLICAS`` an enqueue raises
    NotReplicated unless so many replicas have it.
    """

    valid_options = frozenset({"BROKER_URL", "CLUSTER_MODE", "MIN_REPLICAS"})

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._made: tuple[conf.Config, ValkeyBroker] | None = None

    @property
    def broker(self) -> "ValkeyBroker":
        """Return the process's broker for these options; raise ConfigError when the driver is not installed."""
        config = conf.current()
        if self._made is None or self._made[0] is not config:
            url = self.options.get("BROKER_URL")
            broker = _broker(url, config.valkey_prefix, config.dlq_cap, self._cluster_mode, self._min_replicas)
            self._made = config, broker
        return self._made[1]

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Add that the driver is missing, or what is wrong with the options."""
        messages = super().check(**kwargs)
        if not IS_INSTALLED:
            what = f"TASKS[{self.alias!r}] uses ValkeyTaskBackend, and the package valkey is not installed."
            return [*messages, checks.Error(what, hint=INSTALL, id="vtasks.E006")]
        try:
            check_url(self.options.get("BROKER_URL"))
            _ = self._cluster_mode, self._min_replicas
        except ConfigError as error:
            messages.append(checks.Error(f"TASKS[{self.alias!r}]['OPTIONS']: {error}", id="vtasks.E004"))
        return messages

    @property
    def _cluster_mode(self) -> bool:
        mode = self.options.get("CLUSTER_MODE", False)
        if not isinstance(mode, bool):
            raise ConfigError(f"CLUSTER_MODE must be True or False, not {mode!r}.")
        return mode

    @property
    def _min_replicas(self) -> int:
        count = self.options.get("MIN_REPLICAS", 0)
        if type(count) is not int or count < 0:
            raise ConfigError(f"MIN_REPLICAS must be a number of replicas, not {count!r}.")
        return count


@cache
def _broker(url: str, prefix: str, failed_cap: int, is_cluster: bool, min_replicas: int) -> "ValkeyBroker":  # noqa: FBT001
    """One broker per server and process: Django's backend objects are one per thread or asyncio task."""
    if not IS_INSTALLED:
        raise ConfigError(f"ValkeyTaskBackend needs the package valkey: {INSTALL}.")
    return ValkeyBroker(url, prefix=prefix, failed_cap=failed_cap, is_cluster=is_cluster, min_replicas=min_replicas)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "TASKS":
        _broker.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_vtasks.backends.valkey")
