"""A benchmark's workers that begin each task once, and do not settle it, are found out."""

import os
from dataclasses import replace

import pytest

from load_tests.bench import contender, environment, stores
from load_tests.bench.bout import Bout
from load_tests.bench.catalogue import scenarios
from load_tests.bench.records import Exactness

COUNT = 300
CARELESS = """
from on_vtasks.settings import *

TASKS = {"default": {"BACKEND": "careless.Backend"}}
"""
SETTLES_NOTHING = """
from django_vtasks.backends.db import DatabaseTaskBackend
from django_vtasks.brokers.database import DatabaseBroker


async def settle(self, owner, settlements):
    return [True] * len(settlements)


DatabaseBroker.settle = settle


class Backend(DatabaseTaskBackend):
    pass
"""


@pytest.fixture
def measure():
    """Give a function that measures this checkout in a scenario on SQLite, with more in its environment."""

    def measured(scenario, **environ):
        us = contender.load("vtasks")
        us = replace(us, environ={**us.environ, **environ})
        with (
            stores.running("sqlite", durable=False) as store,
            Bout(us, environment.python_of(us, "sqlite", here=True), store, seed=1) as bout,
        ):
            return scenarios()[scenario].measure(bout, COUNT)

    return measured


@pytest.mark.parametrize("scenario", ["noop", "batch"])
def test_what_has_begun_and_was_not_settled_runs_again_in_workers_that_start_anew(measure, tmp_path, scenario):
    (tmp_path / "careless_settings.py").write_text(CARELESS)
    (tmp_path / "careless.py").write_text(SETTLES_NOTHING)
    path = os.pathsep.join([str(tmp_path), str(environment.INSIDE)])

    measured = measure(scenario, DJANGO_SETTINGS_MODULE="careless_settings", PYTHONPATH=path)

    assert measured.count == COUNT
    assert measured.exactness.missing == 0
    assert measured.exactness.doubled > 0


@pytest.mark.parametrize("scenario", ["noop", "batch"])
def test_nothing_begins_again_that_was_settled(measure, scenario):
    measured = measure(scenario)

    assert (measured.count, measured.exactness) == (COUNT, Exactness(missing=0, doubled=0))
