"""Actors and their supervision: processes or tasks that are started, watched, replaced and drained."""

from vtasks_supervisor.actor import Actor, Context
from vtasks_supervisor.errors import SupervisorError, TreeFailed
from vtasks_supervisor.events import Event
from vtasks_supervisor.launcher import Launcher
from vtasks_supervisor.policy import Backoff, Restart, RestartBudget
from vtasks_supervisor.spec import ChildSpec, Place
from vtasks_supervisor.supervisor import Supervisor

__all__ = [
    "Actor",
    "Backoff",
    "ChildSpec",
    "Context",
    "Event",
    "Launcher",
    "Place",
    "Restart",
    "RestartBudget",
    "Supervisor",
    "SupervisorError",
    "TreeFailed",
]
