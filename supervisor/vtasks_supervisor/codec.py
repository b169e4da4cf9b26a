"""Values ⇄ bytes on the private pipe between a supervisor and its children."""

import pickle
from typing import Any

import cloudpickle

from vtasks_supervisor.errors import SpecError

MAX_RECIPE = 256 * 1024
"""Bytes; a recipe that is larger has captured something it should not carry."""


def dump_recipe(recipe: object, whose: str) -> bytes:
    """Return a recipe, lambdas and closures included, as bytes; raise SpecError when it cannot travel."""
    try:
        data: bytes = cloudpickle.dumps(recipe)
    except Exception as error:
        raise SpecError(f"The recipe of child {whose!r} cannot be carried to a process: {error}") from error
    if len(data) > MAX_RECIPE:
        raise SpecError(f"The recipe of child {whose!r} takes {len(data)} bytes, more than {MAX_RECIPE}.")
    return data


def check_importable(function: object, whose: str) -> None:
    """Raise SpecError when a function that must not travel by value would have to."""
    try:
        pickle.dumps(function)
    except Exception as error:
        raise SpecError(f"The setup of child {whose!r} must be importable: {error}") from error


def load_recipe(data: bytes) -> Any:
    """Return what dump_recipe() was given."""
    return cloudpickle.loads(data)


def pack(frame: object) -> bytes:
    """Return a frame as bytes; what it holds must be importable on both sides."""
    return pickle.dumps(frame, protocol=5)


def unpack(data: bytes) -> Any:
    """Return what pack() was given."""
    return pickle.loads(data)  # noqa: S301 - from our own child, over a pipe that nobody else has
