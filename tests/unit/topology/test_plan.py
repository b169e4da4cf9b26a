"""Settings and command line → what a worker shall do, or one sentence that says what cannot be done."""

import re

import pytest
from django.test import override_settings

from django_vtasks import conf, topology
from django_vtasks.errors import ConfigError
from django_vtasks.topology import capacity
from django_vtasks.topology.plan import QueuePlan, slot_of, suspects_of

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


@pytest.mark.parametrize(
    ("setting", "option", "port"), [(None, None, None), (9100, None, 9100), (9100, 9200, 9200), (9100, 0, None)]
)
def test_the_port_of_the_metrics_is_what_the_command_line_says_or_else_the_setting(setting, option, port):
    with override_settings(VTASKS_METRICS_PORT=setting):
        assert topology.plan(metrics_port=option).metrics_port == port


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


class TestBatchQueues:
    @pytest.fixture(autouse=True)
    def batches(self):
        with override_settings(VTASKS_BATCH_QUEUES={"widgets": {"count": 5, "timeout": 0.5}}, VTASKS_QUEUES=["mail"]):
            yield

    def test_one_is_served_as_all_others_are(self):
        widgets = QueuePlan("widgets", 1, 20, conf.Batch(5, 0.5))

        assert topology.plan().queues == [QueuePlan("default", 1, 20), QueuePlan("mail", 1, 20), widgets]
        assert topology.plan(queues=["widgets"]).queues == [widgets]

    def test_without_one_nothing_batches(self):
        assert [queue.batch for queue in topology.plan(queues=["mail", "default"]).queues] == [None, None]

    @pytest.mark.parametrize("asked", ["3", "auto"])
    def test_it_has_one_process_however_many_the_others_have(self, asked, monkeypatch):
        monkeypatch.setattr(capacity, "auto_processes", lambda _: 3)

        assert {name: processes for name, (processes, _) in served(processes=asked).items()} == {
            "default": 3, "mail": 3, "widgets": 1,
        }  # fmt: skip
        with override_settings(VTASKS_PROCESSES=4):
            assert served()["widgets"][0] == 1

    def test_it_has_as_many_as_its_own_setting_says(self):
        with override_settings(VTASKS_QUEUES={"widgets": {"processes": 2, "concurrency": 3}}):
            assert served(processes="7")["widgets"] == (2, 3)

    def test_either_setting_makes_one(self):
        with override_settings(VTASKS_BATCH_QUEUES={}, VTASKS_QUEUES={"widgets": {"batch": {"count": 7}}}):
            [_, widgets] = topology.plan().queues

        assert widgets == QueuePlan("widgets", 1, 20, conf.Batch(7, 5.0))

    def test_an_actor_runs_as_many_tasks_at_a_time_as_a_batch_has_members(self):
        assert [queue.most_running for queue in topology.plan(concurrency=3).queues] == [3, 3, 5]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"count": 0}, "has count = 0 in queue 'widgets', which must be a whole number, at least 1"),
            ({"timeout": -1}, "has timeout = -1 in queue 'widgets', which must be a positive number of seconds"),
            ({"cuont": 5}, "has an unknown option 'cuont' in queue 'widgets'. Did you mean 'count'?"),
        ],
    )
    def test_a_wrong_option_is_refused_and_named(self, options, reason):
        with (
            override_settings(VTASKS_BATCH_QUEUES={"widgets": options}),
            pytest.raises(ConfigError, match=re.escape(f"VTASKS_BATCH_QUEUES {reason}")),
        ):
            topology.plan()


class TestSlots:
    @pytest.mark.parametrize(
        ("queue", "names"),
        [
            (QueuePlan("mail", 1, 20), ["mail#1"]),
            (QueuePlan("mail", 2, 20), ["mail#1", "mail#2"]),
            (QueuePlan("mail", 1, 20, conf.Batch()), ["mail (batch)"]),
            (QueuePlan("mail", 2, 20, conf.Batch()), ["mail (batch)#1", "mail (batch)#2"]),
        ],
    )
    def test_an_actor_is_named_after_its_queue_and_what_it_does(self, queue, names):
        assert [slot_of(queue, number) for number in range(1, queue.processes + 1)] == names

    def test_the_one_for_suspects_is_named_apart(self):
        assert suspects_of("mail") == "mail (suspects)"


class TestScheduler:
    def test_there_is_one_where_it_is_asked_for(self):
        assert not topology.plan().scheduler
        assert topology.plan(scheduler=True).scheduler

    def test_it_is_an_actor_more(self):
        assert topology.plan(scheduler=True, processes="3").actors == topology.plan(processes="3").actors + 1

    def test_a_burst_cannot_have_one(self):
        with pytest.raises(ConfigError, match=re.escape("--burst ends when no task is left, and --scheduler never")):
            topology.plan(scheduler=True, burst=True)


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
