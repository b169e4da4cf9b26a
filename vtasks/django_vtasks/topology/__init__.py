"""Config → the tree of actors that one worker is."""

from django_vtasks.topology.plan import Plan, backend_with_broker, plan

__all__ = ["Plan", "backend_with_broker", "plan"]
