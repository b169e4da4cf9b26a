"""The lease is renewed on a thread, whatever the store does, and ends with the worker."""

import threading
import time

import pytest

from django_vtasks.brokers.base import Reclaimed
from django_vtasks.worker import outage
from django_vtasks.worker.lease import STOP_TIMEOUT, LeaseKeeper

NODE = "north-1-abc"
PATIENCE = 10.0


class Store:
    """A coordinator that answers as the test says, and wakes who waits for a call."""

    def __init__(self):
        self.renewed = [False]
        self.reclaimed = [Reclaimed([], [])]
        self.leases = {NODE: 1.0}
        self.trouble = {}
        self.on_call = lambda: None
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()
        self._news = threading.Condition()

    def renew(self, node, ttl):
        return self._answer("renew", node, ttl, answers=self.renewed, usual=True)

    def nodes(self):
        return self._answer("nodes", answers=[], usual=self.leases)

    def reclaim_expired(self, own, cause, among):
        return self._answer("reclaim_expired", own, cause, among, answers=self.reclaimed, usual=Reclaimed([], []))

    def publish(self, node, report):
        return self._answer("publish", node, report, answers=[], usual=None)

    def leave(self, node):
        return self._answer("leave", node, answers=[], usual=None)

    def count(self, name):
        return sum(call[0] == name for call in self.calls)

    def wait_for(self, name, times=1):
        with self._news:
            assert self._news.wait_for(lambda: self.count(name) >= times, PATIENCE), (
                f"no {times} × {name}: {self.calls}"
            )

    def _answer(self, name, *arguments, answers, usual):
        with self._news:
            self.calls.append((name, *arguments))
            self._news.notify_all()
        self.on_call()
        self.gate.wait(PATIENCE)
        if error := self.trouble.get(name):
            raise error
        return answers.pop(0) if answers else usual


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def keep(store, monkeypatch):
    monkeypatch.setattr(outage, "FIRST_DELAY", 0.001)
    made = []

    def keep(ttl=0.03, renewed=lambda: None, took_back=lambda: None, report=lambda: None):
        keeper = LeaseKeeper(store, NODE, ttl, renewed, took_back, report=report)
        made.append(keeper)
        keeper.start()
        return keeper

    yield keep
    store.gate.set()
    store.trouble.clear()
    for keeper in made:
        keeper.stop()
        keeper._thread.join(PATIENCE)
        assert not keeper._thread.is_alive()


def test_it_takes_the_lease_at_once_and_tells_of_each_renewal_before_it_looks_for_others(store, keep):
    told = []
    keep(renewed=lambda: told.append((store.count("renew"), store.count("reclaim_expired"))))
    store.wait_for("renew", 4)

    assert told[:2] == [(1, 0), (2, 1)]
    assert store.calls[0] == ("renew", NODE, 0.015)


def test_each_renewal_looks_for_nodes_that_vanished_and_every_third_for_what_they_left(store, keep):
    keep(ttl=0.6)
    store.wait_for("reclaim_expired", 2)
    names = [call[0] for call in store.calls]

    assert names == ["renew", "nodes", "reclaim_expired", *["renew", "nodes"] * 3, "reclaim_expired"]
    assert store.calls[2] == ("reclaim_expired", NODE, "The worker's lease ran out", set())


def test_what_a_vanished_node_left_locked_is_looked_for_at_the_next_renewal(store, keep):
    store.leases["dead"] = 0.0
    keep(ttl=1.2)
    store.wait_for("reclaim_expired", 2)
    del store.leases["dead"]
    store.wait_for("reclaim_expired", 3)

    assert [call[0] for call in store.calls][-4:] == ["reclaim_expired", "renew", "nodes", "reclaim_expired"]


def test_it_renews_three_times_in_the_time_that_a_renewal_buys(store, keep):
    keep(ttl=1.2)
    store.wait_for("renew", 1)
    began = time.monotonic()
    store.wait_for("renew", 4)

    assert 0.5 <= time.monotonic() - began < 0.6 + 0.6
    assert store.calls[0] == ("renew", NODE, 0.6)


def test_a_node_that_has_lapsed_is_given_a_third_of_the_time_to_come_back(store, keep):
    store.leases["dead"] = 0.0
    keep(ttl=1.2)
    store.wait_for("nodes", 1)
    began = time.monotonic()
    store.wait_for("reclaim_expired", 2)
    elapsed = time.monotonic() - began
    among = [call[3] for call in store.calls if call[0] == "reclaim_expired"]

    assert among == [set(), {"dead"}]
    assert elapsed >= 0.35


def test_its_own_lease_that_has_lapsed_is_nobodys_business(store, keep):
    store.leases[NODE] = -1.0
    keep()
    store.wait_for("reclaim_expired", 3)

    assert {frozenset(call[3]) for call in store.calls if call[0] == "reclaim_expired"} == {frozenset()}


def test_after_an_outage_everybody_has_time_to_renew_before_anybody_takes_over(store, keep):
    """The first to reach the store again finds all leases run out, those of live workers too."""
    keep(ttl=1.2)
    store.wait_for("nodes", 1)
    store.leases["alive"] = 0.0
    store.trouble["renew"] = OSError("closed")
    store.wait_for("renew", 3)
    looks = store.count("nodes")
    store.trouble.clear()
    store.wait_for("nodes", looks + 2)
    store.leases["alive"] = 1.0
    store.wait_for("nodes", looks + 6)

    assert {frozenset(call[3]) for call in store.calls if call[0] == "reclaim_expired"} == {frozenset()}


def test_stopping_ends_the_lease_and_is_not_held_up_by_the_pause(store, keep):
    keeper = keep(ttl=3600.0)
    store.wait_for("reclaim_expired")
    began = time.monotonic()
    keeper.stop()

    assert time.monotonic() - began < STOP_TIMEOUT
    assert store.calls[-1] == ("leave", NODE)
    keeper.stop()
    assert store.count("leave") == 1


def test_trouble_is_logged_and_tried_again_within_a_third_of_the_lease(store, keep, caplog):
    store.trouble["renew"] = OSError("closed")
    renewed = []
    keep(renewed=lambda: renewed.append(1))
    store.wait_for("renew", 4)
    assert renewed == []
    del store.trouble["renew"]
    store.wait_for("reclaim_expired")

    assert renewed
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "Cannot renew the lease; trying again until it works"
    assert messages[1] == "Still cannot renew the lease (2 failures): closed"


def test_a_lease_that_had_run_out_is_reported(store, keep, caplog):
    store.renewed[:] = [False, True, False]
    keep()
    store.wait_for("renew", 4)

    assert [record.getMessage() for record in caplog.records] == [
        f"The lease of node {NODE} had run out; its tasks were given to others"
    ]


def test_the_first_renewal_reports_no_loss(store, keep, caplog):
    keep()
    store.wait_for("renew", 3)

    assert caplog.records == []


def test_what_it_takes_back_is_reported(store, keep, caplog):
    told = []
    store.reclaimed[:] = [Reclaimed(["a", "b"], ["c"]), Reclaimed([], [])]
    keep(took_back=lambda: told.append(store.count("reclaim_expired")))
    store.wait_for("reclaim_expired", 3)

    assert told == [1]
    assert [record.getMessage() for record in caplog.records] == [
        "Took back 3 tasks of vanished workers; 1 of them failed for good"
    ]


def test_a_reclaim_that_fails_costs_the_lease_nothing(store, keep):
    store.trouble["reclaim_expired"] = OSError("deadlock")
    renewed = []
    keep(renewed=lambda: renewed.append(1))
    store.wait_for("renew", 4)

    assert len(renewed) >= 3


def test_a_keeper_that_was_never_started_ends_at_once(store):
    LeaseKeeper(store, NODE, 1.0, lambda: None).stop()

    assert store.calls == []


def test_a_lease_that_cannot_be_ended_runs_out_by_itself(store, keep, caplog):
    store.trouble["leave"] = OSError("closed")
    keeper = keep()
    store.wait_for("renew")
    keeper.stop()

    assert f"Could not end the lease of node {NODE}: closed" in caplog.text


def test_a_connection_that_was_closed_at_the_end_leaves_no_lease_behind(store, keep, caplog):
    store.trouble["leave"] = OSError("closed")
    store.on_call = lambda: store.trouble.pop("leave", None) if store.count("leave") == 2 else None
    keeper = keep()
    store.wait_for("renew")
    keeper.stop()

    assert store.count("leave") == 2
    assert "Could not end" not in caplog.text


def test_a_store_that_does_not_answer_does_not_keep_the_worker_from_stopping(store, keep):
    store.gate.clear()
    keeper = keep()
    store.wait_for("renew")
    began = time.monotonic()
    keeper.stop()

    assert time.monotonic() - began < STOP_TIMEOUT + 1


def test_what_the_node_says_of_itself_is_stored_when_it_is_news(store, keep):
    said = ["first"]
    keep(report=lambda: said[-1])
    store.wait_for("renew", 4)
    assert [call for call in store.calls if call[0] == "publish"] == [("publish", NODE, "first")]

    said.append("second")
    store.wait_for("publish", 2)
    store.wait_for("renew", store.count("renew") + 3)

    assert [call for call in store.calls if call[0] == "publish"][1:] == [("publish", NODE, "second")]


def test_a_node_that_says_nothing_stores_nothing(store, keep):
    keep()
    store.wait_for("renew", 4)

    assert store.count("publish") == 0


def test_after_a_lease_that_had_run_out_it_says_it_again(store, keep):
    store.renewed[:] = [False, True, True, False, True]
    keep(report=lambda: "well")
    store.wait_for("renew", 6)

    assert store.count("publish") == 2


def test_a_report_that_is_refused_is_tried_again_and_costs_the_lease_nothing(store, keep):
    store.trouble["publish"] = OSError("closed")
    keep(report=lambda: "well")
    store.wait_for("publish", 3)
    assert store.count("renew") >= 3
    store.wait_for("reclaim_expired")  # whose tasks nobody holds still come back

    store.trouble.clear()
    tries = store.count("publish")
    store.wait_for("publish", tries + 1)
