"""What is wrong with a server, in words that say what it costs and what to do."""

from collections.abc import Iterator, Mapping
from typing import Any

from valkey.exceptions import ResponseError

from django_vtasks.brokers.valkey.link import Link
from django_vtasks.errors import BrokerUnavailable, ConfigError

OLDEST_VALKEY, OLDEST_REDIS = (7, 2), (7, 0)


def inspect(link: Link, min_replicas: int = 0) -> list[str]:
    """Return warnings; raise ConfigError for a server that cannot keep tasks.

    What a managed server does not tell this user is passed over in silence.
    """
    info = _facts(_allowed(link, "INFO") or b"")
    saves = (_allowed(link, "CONFIG", "GET", "save") or [None, None])[1]
    for problem in refusals(info):
        raise ConfigError(f"Valkey at {link.address} {problem}")
    return [f"Valkey at {link.address} {problem}" for problem in warnings(info, saves, min_replicas)]


def refusals(info: Mapping[str, Any]) -> Iterator[str]:
    """Tell for what reasons tasks cannot be kept by a server that says this of itself."""
    is_valkey = "valkey_version" in info
    version = str(info.get("valkey_version" if is_valkey else "redis_version", ""))
    if version and _parts(version) < (OLDEST_VALKEY if is_valkey else OLDEST_REDIS):
        yield (
            f"is {'Valkey' if is_valkey else 'Redis'} {version}, which is too old: "
            f"Valkey {_text(OLDEST_VALKEY)} or Redis {_text(OLDEST_REDIS)} is needed."
        )
    # In a cluster the primary is found by the next call, whatever a node has just become.
    if info.get("role") == "slave" and not info.get("cluster_enabled"):
        yield "is a replica, which takes no tasks: BROKER_URL must name the primary."
    policy = _policy(info)
    if policy.startswith("allkeys-") and info.get("maxmemory"):
        yield f"deletes tasks when its memory is full (maxmemory-policy {policy}): set maxmemory-policy to noeviction."


def warnings(info: Mapping[str, Any], saves: bytes | None, min_replicas: int) -> Iterator[str]:
    """Tell what a server will cost sooner or later; ``saves`` is when it writes snapshots, None if nobody knows."""
    policy = _policy(info)
    if policy.startswith("allkeys-"):
        yield (
            f"would delete tasks if it had a limit to its memory (maxmemory-policy {policy}): "
            "set maxmemory-policy to noeviction."
        )
    elif policy not in {"", "noeviction"}:
        yield (
            f"deletes the locks of unique tasks when its memory is full (maxmemory-policy {policy}), so that a second "
            "one is accepted: set maxmemory-policy to noeviction."
        )
    if saves == b"" and info.get("aof_enabled") == 0:
        yield (
            "keeps its data in memory alone: when it ends, all tasks are lost. Set appendonly to yes, or save to when "
            "it shall write snapshots."
        )
    replicas = info.get("connected_slaves", min_replicas)
    if replicas < min_replicas:
        yield f"has {replicas} replicas, and MIN_REPLICAS is {min_replicas}: each enqueue will raise NotReplicated."


def _allowed(link: Link, *command: str) -> Any:
    """Return a command's answer, or None where it is forbidden or has another name."""
    try:
        return link.command(*command)
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, ResponseError):
            return None
        raise


def _facts(info: bytes) -> dict[str, Any]:
    """Return what INFO says by name, numbers as such."""
    pairs = [line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line]
    return {name: int(value) if value.isdecimal() else value for name, value in pairs}


def _policy(info: Mapping[str, Any]) -> str:
    return str(info.get("maxmemory_policy", ""))


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
