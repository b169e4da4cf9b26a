"""What the driver raises → our errors, in words that say what to do and keep secrets."""

import asyncio

from valkey import exceptions

from django_vtasks.errors import BrokerUnavailable, LeaseLost

_BY_CLASS: list[tuple[type[Exception], str]] = [
    (exceptions.BusyLoadingError, "is loading its data"),
    (exceptions.AuthenticationError, "refuses the user name or the password"),
    (exceptions.AuthorizationError, "refuses the user name or the password"),
    (exceptions.NoPermissionError, "does not permit this user what is needed"),
    (exceptions.ReadOnlyError, "is a replica, which takes no tasks: BROKER_URL must name the primary"),
    (exceptions.OutOfMemoryError, "has no memory left: raise maxmemory, or clear queues"),
    (exceptions.TimeoutError, "did not answer in time"),
    (TimeoutError, "did not answer in time"),
    (asyncio.IncompleteReadError, "closed the connection"),
    (exceptions.InvalidResponse, "does not answer as Valkey does: the port may be another program's"),
]
_BY_CODE = {
    "ACL": "does not permit this user what is needed",  # said of a command within a script
    "MISCONF": "cannot save its data to disk, and takes nothing until it can",
    "BUSY": "is busy with a long script",
    "CLUSTERDOWN": "says that its cluster is down",
    "MASTERDOWN": "has lost its primary",
    "NOREPLICAS": "has fewer replicas than it needs to take anything",
    "TRYAGAIN": "is moving the keys to another node",
    "ASK": "is moving the keys to another node",
    "Script": "is moving the keys to another node",
    "MOVED": "is not the node of the cluster that has the keys: set OPTIONS['CLUSTER_MODE'] to True",
    "DB": "has no database of this number",
    "max": "has no connection left",
}


def code_of(error: Exception) -> str:
    """Return the first word of a server's reply."""
    return str(error).partition(" ")[0]


def translated(error: Exception, address: str) -> Exception:
    """Return the error that callers know; what nobody foresaw stays what it is."""
    if code_of(error) == "LEASELOST":
        return LeaseLost("The node has no lease; its tasks were given to others.")
    reason = next((words for kind, words in _BY_CLASS if isinstance(error, kind)), None) or _BY_CODE.get(code_of(error))
    if reason is None and isinstance(error, exceptions.ConnectionError | OSError):
        reason = f"cannot be reached: {str(error).rstrip('.')}"
    if reason is None and isinstance(error, exceptions.ResponseError):
        reason = f"refuses: {error}"
    return error if reason is None else BrokerUnavailable(f"Valkey at {address} {reason}.")
