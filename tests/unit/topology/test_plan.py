"""Settings and command line → what a worker shall do, or one sentence that says what cannot be done."""

import re

import pytest
from django.test import override_settings

from django_vtasks import topology
from django_vtasks.errors import ConfigError
from django_vtasks.topology import capacity
from django_vtasks.topology.plan import QueuePlan

QUEUES = {"mail": {"processes": 3, "concurrency": 5}, "images": {"concurrency": 1}, "reports": {}}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    monkeypatch.delenv("DYNO", raising=False)


@pytest.fixture
def settings():
    with override_settings(VTASKS_QUEUES=QUEUES, VTASKS_PROCESSES=2, VTASKS_CONCURRENCY=7):
        yield


def served(**options):
    return {queue.name: (queue.processes, queue.concurrency) for queue in topology.plan(**options).queues}


class TestQueues:
    def test_without_any_setting_there_is_one_with_one_process(self):
        assert topology.plan().queues == [QueuePlan("default", 1, 20)]

    def test_each_has_what_its_own_setting_says_and_else_what_all_have(self, settings):
        assert served() == {"default": (2, 7), "images": (2, 1), "mail": (3, 5), "reports": (2, 7)}

    def test_the_command_line_is_above_every_setting(self, settings):
        assert served(processes="4", concurrency=9) == dict.fromkeys(("default", "images", "mail", "reports"), (4, 9))

    def test_those_asked_for_are_served_in_their_order_and_once(self, settings):
        plan = topology.plan(queues=["reports", "mail", "reports"])

        assert plan.queue_names == ["reports", "mail"]
        assert plan.actors == 5

    def test_an_unknown_one_is_refused_with_the_nearest_known(self, settings):
        with pytest.raises(ConfigError, match=re.escape("'image' is not in VTASKS_QUEUES. Did you mean 'images'?")):
            topology.plan(queues=["image"])

    def test_a_batch_queue_is_not_served_yet_and_asking_for_it_says_so(self):
        with override_settings(VTASKS_BATCH_QUEUES={"widgets": {"count": 5}}):
            assert served() == {"default": (1, 20)}
            assert topology.without_effect() == ["VTASKS_BATCH_QUEUES"]
            with pytest.raises(ConfigError, match="'widgets' is a batch queue"):
                topology.plan(queues=["widgets"])

    def test_a_backend_that_takes_any_queue_serves_those_that_are_asked_for(self):
        anything = {
            "default": {
                "BACKEND": "django_vtasks.backends.db.DatabaseTaskBackend",
                "QUEUES": [],
                "OPTIONS": {"DATABASE": "default"},
            }
        }
        with override_settings(TASKS=anything):
            assert served(queues=["whatever"]) == {"whatever": (1, 20)}


class TestProcesses:
    @pytest.mark.parametrize("asked", ["0", "-1", "x", "", "1.5", "AUTO", "1 x"])
    def test_what_is_no_positive_number_is_refused_in_its_own_words(self, asked):
        with pytest.raises(
            ConfigError, match=re.escape(f"--processes must be 'auto' or a number of at least 1, not {asked!r}")
        ):
            topology.plan(processes=asked)

    def test_auto_is_what_the_machine_bears_shared_among_the_queues(self, settings, monkeypatch):
        monkeypatch.setattr(capacity, "auto_processes", lambda queues: 24 // queues)

        assert {processes for processes, _ in served(processes="auto").values()} == {6}

    def test_auto_in_the_settings_is_for_queues_that_say_nothing_themselves(self, monkeypatch):
        monkeypatch.setattr(capacity, "auto_processes", lambda _: 6)
        with override_settings(VTASKS_QUEUES=QUEUES, VTASKS_PROCESSES="auto"):
            assert {name: processes for name, (processes, _) in served().items()} == {
                "default": 6, "images": 6, "mail": 3, "reports": 6,
            }  # fmt: skip

    def test_auto_is_at_least_one_on_any_machine(self):
        assert served(processes="auto")["default"][0] >= 1


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_concurrency_below_one_is_refused(concurrency):
    with pytest.raises(ConfigError, match="--concurrency must be at least 1"):
        topology.plan(concurrency=concurrency)


@pytest.mark.parametrize("backend", ["immediate"])
def test_a_backend_without_a_broker_is_refused(backend):
    with pytest.raises(ConfigError, match="ImmediateBackend, which has nothing for a worker to do"):
        topology.plan(backend=backend)


@pytest.mark.parametrize(
    ("path", "said"),
    [("nowhere.hook", "nowhere"), ("os.no_such", "no_such"), ("os.sep", "'os.sep', which is not callable")],
)
def test_a_context_hook_that_is_none_is_refused(path, said):
    with override_settings(VTASKS_TASK_CONTEXT=path), pytest.raises(ConfigError, match=f"VTASKS_TASK_CONTEXT.*{said}"):
        topology.plan()


class TestNode:
    def test_two_workers_of_one_name_are_two_nodes(self):
        first, second = topology.plan(worker_id="north").node, topology.plan(worker_id="north").node

        assert first.startswith("north-")
        assert first != second

    @pytest.mark.parametrize("name", ["a:b:c", "x" * 500])
    def test_its_name_fits_into_an_owner(self, name):
        node = topology.plan(worker_id=name).node

        assert ":" not in node
        assert len(node) <= 100

    def test_the_name_is_the_options_else_the_settings_else_the_dynos(self, monkeypatch):
        monkeypatch.setenv("DYNO", "worker.3")
        assert topology.plan().node.startswith("worker.3-")
        with override_settings(VTASKS_WORKER_ID="south"):
            assert topology.plan().node.startswith("south-")
            assert topology.plan(worker_id="north").node.startswith("north-")


def test_the_health_port_is_the_options_else_the_settings():
    with override_settings(VTASKS_HEALTH_PORT=8080):
        assert topology.plan().health_port == 8080
        assert topology.plan(health_port=9090).health_port == 9090
    assert topology.plan().health_port is None
