"""Actors and the supervisor that keeps them alive; nothing is here yet."""
