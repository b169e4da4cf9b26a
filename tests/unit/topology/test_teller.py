"""An actor's word to its supervisor: when there is news, and once more at the end."""

from functools import partial

import pytest

from django_vtasks.metrics import exposition, projects, tally
from django_vtasks.topology import teller as topology_teller
from django_vtasks.topology.teller import Teller
from tests.unit.worker.doubles import soon

LABELS = "shop.tasks.told", "default"
KEY = "vtasks_tasks_submitted", LABELS


class Context:
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)

    @property
    def counts(self):
        return [snapshot.counts for snapshot in self.said if snapshot.counts]


def _has_said(context, times):
    return len(context.counts) == times


@pytest.fixture
def context():
    return Context()


@pytest.fixture
async def teller(context, monkeypatch):
    monkeypatch.setattr(topology_teller, "PAUSE", 0.01)
    monkeypatch.setattr(topology_teller, "FIRST_PAUSE", 0.01)
    sources = list(exposition.process.sources)
    for cells in (tally.submitted, tally.processed, tally.durations, tally.rescued, tally.given_up, tally.runs,
                  tally.claims, tally.settlements, tally.lateness):  # fmt: skip
        cells.clear()
    made = Teller(context, lambda: False)
    yield made
    await made.stop()
    exposition.process.sources[:] = sources


@pytest.fixture
def shop(teller, monkeypatch):
    """Give the project's metrics, which a test sets."""
    found: dict[str, projects.ProjectFamily] = {}
    monkeypatch.setattr(teller._project, "_read", lambda: dict(found))
    return found


async def test_what_is_counted_is_told_and_nothing_while_nothing_is(teller, context):
    teller.start()
    tally.submitted[LABELS].value += 2
    await soon(lambda: context.counts)
    assert context.counts == [{KEY: 2}]
    await soon(lambda: teller._turns >= 5)
    assert len(context.counts) == 1
    tally.submitted[LABELS].value += 1
    await soon(lambda: len(context.counts) == 2)
    assert context.counts[-1] == {KEY: 3}


async def test_only_what_has_changed_is_told(teller, context):
    teller.start()
    tally.submitted["shop.tasks.other", "default"].value += 1
    tally.submitted[LABELS].value += 1
    await soon(lambda: context.counts)
    tally.submitted[LABELS].value += 1
    await soon(lambda: len(context.counts) == 2)
    assert context.counts[-1] == {KEY: 2}


async def test_all_is_told_again_now_and_then_in_case_a_message_was_lost(teller, context, monkeypatch):
    monkeypatch.setattr(topology_teller, "ALL_EVERY", 2)
    tally.submitted["shop.tasks.other", "default"].value += 1
    teller.start()
    for told in range(1, 4):
        tally.submitted[LABELS].value += 1
        await soon(partial(_has_said, context, told))
    assert [len(counts) for counts in context.counts] == [2, 1, 2]


async def test_the_end_tells_everything(teller, context):
    teller.start()
    tally.submitted[LABELS].value += 1
    await soon(lambda: context.counts)
    await teller.stop()
    assert context.counts[-1] == {KEY: 1}


async def test_the_registry_of_its_process_shows_none_of_it(teller):
    assert exposition.process.sources == [], "the registry of the actor does not show what its supervisor does"


async def test_the_project_s_metrics_follow_what_ours_tell_of(teller, context, shop):
    shop["shop_sales"] = projects.ProjectFamily("counter", "Sales.", "", {("shop_sales_total", ()): 1.0})
    teller.start()
    tally.submitted[LABELS].value += 1
    await soon(lambda: any(snapshot.project for snapshot in context.said))
    assert [s.project for s in context.said if s.project] == [shop]


async def test_a_collector_that_raises_is_said_once_and_costs_ours_nothing(teller, context, monkeypatch, caplog):
    def broken():
        raise RuntimeError("a collector's own trouble")

    monkeypatch.setattr(teller._project, "_read", broken)
    teller.start()
    for told in range(1, 4):
        tally.submitted[LABELS].value += 1
        await soon(partial(_has_said, context, told))
    await soon(lambda: "cannot be read" in caplog.text)
    assert caplog.text.count("The project's metrics cannot be read") == 1
