"""Fifty tasks of different names, as a project may have."""

from typing import Any

from django_vtasks import task


def _named(number: int) -> Any:
    async def noop() -> None:
        """Do nothing, on the loop."""

    noop.__name__ = noop.__qualname__ = f"task_{number}"
    return noop


for _number in range(50):
    globals()[f"task_{_number}"] = task(_named(_number))

TASKS = [globals()[f"task_{number}"] for number in range(50)]
