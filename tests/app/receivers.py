"""Receivers of signals for the time of a test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.dispatch import Signal


@contextmanager
def connected(signal: Signal, receiver: Callable[..., Any]) -> Iterator[None]:
    """Let a function, ``def`` or ``async def``, receive a signal."""
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@contextmanager
def heard(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    """Give a list that grows by the sender and the arguments of each signal."""
    received: list[dict[str, Any]] = []

    def receiver(sender: type, **arguments: Any) -> None:
        del arguments["signal"]
        received.append({"sender": sender} | arguments)

    with connected(signal, receiver):
        yield received
