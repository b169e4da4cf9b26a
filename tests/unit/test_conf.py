"""A setting comes from Django's settings or else from the environment; one that is wrong is told by its name."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from django_vtasks import conf
from django_vtasks.conf import Batch, Config, Queue
from django_vtasks.errors import ConfigError

HOURLY = {"hourly": {"task": "app.tasks.clean", "schedule": 3600}}
EMAILS = {"default": Queue("default"), "emails": Queue("emails")}
BATCHES = {"default": Queue("default"), "widgets": Queue("widgets", batch=Batch(100, 5.0))}

# Setting → its value, the same as text in the environment, and the fields of Config that it sets.
EVERY_SETTING = {
    "VTASKS_QUEUES": (["emails"], "emails", {"queues": EMAILS}),
    "VTASKS_BATCH_QUEUES": (
        {"widgets": {"count": 100, "timeout": 5.0}},
        '{"widgets": {"count": 100, "timeout": 5.0}}',
        {"queues": BATCHES},
    ),
    "VTASKS_CONCURRENCY": (7, "7", {"concurrency": 7}),
    "VTASKS_PROCESSES": (3, "3", {"processes": 3}),
    "VTASKS_SCHEDULE": (HOURLY, '{"hourly": {"task": "app.tasks.clean", "schedule": 3600}}', {"schedule": HOURLY}),
    "VTASKS_RUN_SCHEDULER": (False, "false", {"run_scheduler": False}),
    "VTASKS_DLQ_CAP": (50, "50", {"dlq_cap": 50}),
    "VTASKS_VALKEY_PREFIX": ("{mine}", "{mine}", {"valkey_prefix": "{mine}"}),
    "VTASKS_METRICS_PORT": (9100, "9100", {"metrics_port": 9100}),
    "VTASKS_HEALTH_PORT": (9200, "9200", {"health_port": 9200}),
    "VTASKS_WORKER_ID": ("north", "north", {"worker_id": "north"}),
    "VTASKS_BACKEND": ("other", "other", {"backend": "other"}),
    "VTASKS_MAX_RESCUES": (0, "0", {"max_rescues": 0}),
    "VTASKS_LEASE": (30, "30", {"lease": 30.0}),
    "VTASKS_SHUTDOWN_TIMEOUT": (2.5, "2.5", {"shutdown_timeout": 2.5}),
    "VTASKS_TASK_CONTEXT": ("app.context.hook", "app.context.hook", {"task_context": "app.context.hook"}),
}

every_setting = pytest.mark.parametrize(
    ("setting", "value", "text", "expected"),
    [(setting, *row) for setting, row in EVERY_SETTING.items()],
    ids=EVERY_SETTING,
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for setting in EVERY_SETTING:
        monkeypatch.delenv(setting, raising=False)
    conf._load.cache_clear()
    yield
    conf._load.cache_clear()


@pytest.fixture
def variable(monkeypatch):
    """Give a function that sets an environment variable as if the process had been started with it."""

    def set_variable(name, value):
        monkeypatch.setenv(name, value)
        conf._load.cache_clear()

    return set_variable


def given(**fields):
    """Return the default configuration but for some fields."""
    return Config(**fields)


def the_problem(**settings):
    """Return the only problem of some settings, which must also be what conf.current() raises."""
    with override_settings(**settings):
        [problem] = conf.problems()
        with pytest.raises(ConfigError) as raised:
            conf.current()
    assert str(raised.value) == problem.message
    return problem


# Where a value comes from


def test_the_defaults_are_those_of_the_documentation():
    config = conf.current()

    assert config == Config(
        queues={"default": Queue("default")},
        concurrency=20,
        processes=1,
        schedule={},
        run_scheduler=True,
        dlq_cap=1000,
        valkey_prefix="{vt}",
        metrics_port=None,
        health_port=None,
        worker_id=None,
        backend="default",
        max_rescues=2,
        lease=15.0,
        shutdown_timeout=25.0,
        task_context=None,
    )
    assert config.batch_queues == {}
    assert conf.problems() == ()


@every_setting
def test_a_setting_is_taken_from_djangos_settings(setting, value, text, expected):
    with override_settings(**{setting: value}):
        assert conf.current() == given(**expected)


@every_setting
def test_a_setting_is_taken_from_the_environment(setting, value, text, expected, variable):
    variable(setting, text)

    assert conf.current() == given(**expected)


@every_setting
def test_djangos_settings_win_over_the_environment(setting, value, text, expected, variable):
    variable(setting, "[not even valid")

    with override_settings(**{setting: value}):
        assert conf.current() == given(**expected)


def test_every_setting_of_the_documentation_is_known_and_no_other():
    assert {conf.PREFIX + name.upper() for name in conf._PARSERS} == EVERY_SETTING.keys()


@pytest.mark.parametrize("off", [0, "0", None], ids=["number", "text", "nothing"])
def test_no_metrics_port_may_be_said_in_several_ways(off):
    with override_settings(VTASKS_METRICS_PORT=off):
        assert conf.current().metrics_port is None


@pytest.mark.parametrize("setting", ["METRICS_PORT", "HEALTH_PORT", "WORKER_ID", "TASK_CONTEXT"])
def test_none_means_that_an_optional_setting_is_not_given(setting):
    with override_settings(**{f"VTASKS_{setting}": None}):
        assert conf.current() == Config()


def test_a_changed_setting_takes_effect_at_once_and_its_end_too():
    with override_settings(VTASKS_CONCURRENCY=3):
        assert conf.current().concurrency == 3
        with override_settings(VTASKS_CONCURRENCY=4):
            assert conf.current().concurrency == 4
        assert conf.current().concurrency == 3
    assert conf.current().concurrency == 20


# Queues


@pytest.mark.parametrize(
    "names", [["emails"], ("emails",), {"emails"}, {"emails": {}}, {"emails": None}, ["default", "emails"]]
)
def test_the_default_queue_is_always_there(names):
    with override_settings(VTASKS_QUEUES=names):
        assert conf.current().queues == EMAILS


@pytest.mark.parametrize("text", ["emails,cold", " emails , cold ", '["emails", "cold"]', '{"emails": {}, "cold": {}}'])
def test_the_environment_lists_queues_with_commas_or_as_json(text, variable):
    variable("VTASKS_QUEUES", text)

    assert conf.current().queues == EMAILS | {"cold": Queue("cold")}


def test_a_queue_may_have_options_of_its_own():
    queues = {"emails": {"batch": {"count": 5, "timeout": 0.5}}, "cold": {"concurrency": 3, "processes": 2}}

    with override_settings(VTASKS_QUEUES=queues):
        config = conf.current()

    assert config.queues == {
        "default": Queue("default"),
        "emails": Queue("emails", batch=Batch(count=5, timeout=0.5)),
        "cold": Queue("cold", concurrency=3, processes=2),
    }
    assert config.batch_queues == {"emails": Batch(count=5, timeout=0.5)}


@pytest.mark.parametrize("options", [{}, {"count": 100}, {"timeout": 5}, {"count": 100, "timeout": 5.0}])
def test_both_ways_to_declare_a_batch_queue_say_the_same(options):
    with override_settings(VTASKS_BATCH_QUEUES={"widgets": options}):
        apart = conf.current()
    with override_settings(VTASKS_QUEUES={"widgets": {"batch": options}}):
        together = conf.current()

    assert apart == together == given(queues=BATCHES)
    assert apart.batch_queues == {"widgets": Batch(count=100, timeout=5.0)}


def test_the_two_settings_for_queues_add_up():
    with override_settings(VTASKS_QUEUES=["emails"], VTASKS_BATCH_QUEUES={"widgets": {}}):
        assert conf.current().queues == EMAILS | BATCHES


def test_a_batch_queue_keeps_what_the_other_setting_says_of_it():
    with override_settings(VTASKS_QUEUES={"widgets": {"concurrency": 3}}, VTASKS_BATCH_QUEUES={"widgets": {}}):
        assert conf.current().queues["widgets"] == Queue("widgets", concurrency=3, batch=Batch())


def test_the_default_queue_may_be_a_batch_queue():
    with override_settings(VTASKS_BATCH_QUEUES={"default": {"count": 2}}):
        assert conf.current().queues == {"default": Queue("default", batch=Batch(count=2))}


def test_the_longest_name_of_a_queue_has_a_hundred_characters():
    with override_settings(VTASKS_QUEUES=["q" * 100]):
        assert "q" * 100 in conf.current().queues


def test_the_smallest_numbers_are_valid():
    settings = {
        "VTASKS_QUEUES": {"cold": {"concurrency": 1, "processes": 1, "batch": {"count": 1, "timeout": 0.001}}},
        "VTASKS_CONCURRENCY": 1,
        "VTASKS_PROCESSES": 1,
        "VTASKS_DLQ_CAP": 1,
        "VTASKS_MAX_RESCUES": 0,
        "VTASKS_METRICS_PORT": 1,
        "VTASKS_HEALTH_PORT": 65535,
        "VTASKS_LEASE": 0.001,
    }

    with override_settings(**settings):
        assert conf.current().queues["cold"] == Queue("cold", 1, 1, Batch(1, 0.001))


# Values that are wrong

BAD_VALUES: dict[str, list[tuple[Any, str]]] = {
    "VTASKS_QUEUES": [
        (5, "a list of names"),
        (None, "a list of names"),
        ([5], "5 as a queue name"),
        ([""], "'' as a queue name"),
        (["  "], "'  ' as a queue name"),
        (["q" * 101], "1 to 100 printable characters"),
        (["q "], "'q ' as a queue name"),
        ([" q"], "' q' as a queue name"),
        (["q\x00"], "as a queue name"),
        (["q\ud800"], "as a queue name"),
        (["q\n"], "as a queue name"),
        ({"": {}}, "'' as a queue name"),
        ({5: {}}, "5 as a queue name"),
        ({"cold": 5}, "a dictionary as queue 'cold'"),
        ({"cold": 0}, "a dictionary as queue 'cold'"),
        ({"cold": []}, "a dictionary as queue 'cold'"),
        ({"cold": {"concurrency": 0}}, "concurrency = 0 in queue 'cold'"),
        ({"cold": {"processes": "many"}}, "processes = 'many' in queue 'cold'"),
        ({"cold": {"concurrent": 3}}, "'concurrent' in queue 'cold'. Did you mean 'concurrency'?"),
        ({"cold": {"batch": 5}}, "a dictionary as batch of queue 'cold'"),
        ({"cold": {"batch": {"count": 0}}}, "count = 0 in batch of queue 'cold'"),
        ({"cold": {"batch": {"cuont": 5}}}, "Did you mean 'count'?"),
    ],
    "VTASKS_BATCH_QUEUES": [
        (["widgets"], "a dictionary"),
        (None, "a dictionary"),
        ({"widgets": 5}, "a dictionary as queue 'widgets'"),
        ({"widgets": None}, "a dictionary as queue 'widgets'"),
        ({"": {}}, "'' as a queue name"),
        ({"widgets": {"count": 0}}, "count = 0"),
        ({"widgets": {"count": 1.5}}, "count = 1.5"),
        ({"widgets": {"timeout": 0}}, "timeout = 0"),
        ({"widgets": {"timeout": float("inf")}}, "timeout = inf"),
        ({"widgets": {"time_out": 5}}, "Did you mean 'timeout'?"),
    ],
    "VTASKS_CONCURRENCY": [(0, "at least 1"), (-1, "at least 1"), (2.0, "a whole number"), (True, "a whole number"),
                           (None, "a whole number"), ("many", "not a number")],
    "VTASKS_PROCESSES": [(0, "at least 1"), (1.5, "a whole number"), (None, "a whole number"), ("all", "not a number")],
    "VTASKS_SCHEDULE": [([], "a dictionary"), (None, "a dictionary"), ("{", "not valid")],
    "VTASKS_RUN_SCHEDULER": [(1, "True or False"), (None, "True or False"), ("perhaps", "True or False")],
    "VTASKS_DLQ_CAP": [(0, "at least 1"), (None, "a whole number"), (1.0, "a whole number")],
    "VTASKS_VALKEY_PREFIX": [("", "a non-empty string"), (None, "a non-empty string"), (b"vt", "a non-empty string")],
    "VTASKS_METRICS_PORT": [(-1, "at least 0"), (65536, "at most 65535"), ("http", "not a number")],
    "VTASKS_HEALTH_PORT": [(-1, "at least 1"), (70000, "at most 65535"), (80.0, "a whole number")],
    "VTASKS_WORKER_ID": [("", "a non-empty string"), (7, "a non-empty string")],
    "VTASKS_BACKEND": [("", "a non-empty string"), (None, "a non-empty string"), (0, "a non-empty string")],
    "VTASKS_MAX_RESCUES": [(-1, "at least 0"), (None, "a whole number"), (False, "a whole number")],
    "VTASKS_LEASE": [(0, "a positive number of seconds"), (-1, "positive"), (float("nan"), "positive"),
                     (float("inf"), "positive"), (True, "positive"), (None, "positive"), ("long", "not a number"),
                     (timedelta(seconds=15), "positive")],
    "VTASKS_SHUTDOWN_TIMEOUT": [(0, "positive"), ("nan", "positive"), ([], "positive")],
    "VTASKS_TASK_CONTEXT": [("", "a non-empty string"), ("hook", "dotted path"), (len, "a non-empty string")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        pytest.param(setting, value, reason, id=f"{setting}={value!r:.30}")
        for setting, rows in BAD_VALUES.items()
        for value, reason in rows
    ],
)
def test_a_wrong_value_is_a_problem_that_names_its_setting(setting, value, reason):
    problem = the_problem(**{setting: value})

    assert problem.setting == setting
    assert problem.message.startswith(f"{setting} ")
    assert reason in problem.message
    assert (type(value).__name__ if setting == "VTASKS_SCHEDULE" else repr(value)) in problem.message


def test_every_setting_has_a_value_that_is_wrong():
    assert BAD_VALUES.keys() == EVERY_SETTING.keys()


@pytest.mark.parametrize(
    ("setting", "text", "reason"),
    [
        ("VTASKS_CONCURRENCY", "twenty", "not a number"),
        ("VTASKS_CONCURRENCY", "2.5", "not a number"),
        ("VTASKS_QUEUES", "emails,,cold", "'' as a queue name"),
        ("VTASKS_QUEUES", '["emails"', "not valid"),
        ("VTASKS_BATCH_QUEUES", "widgets", "not valid"),
        ("VTASKS_BATCH_QUEUES", "[]", "a dictionary"),
        ("VTASKS_RUN_SCHEDULER", "maybe", "True or False"),
        ("VTASKS_LEASE", "inf", "positive"),
    ],
)
def test_a_wrong_variable_is_a_problem_that_names_it(setting, text, reason, variable):
    variable(setting, text)

    [problem] = conf.problems()

    assert problem.setting == setting
    assert problem.message.startswith(f"{setting} ")
    assert reason in problem.message


@pytest.mark.parametrize(("text", "value"), [
    ("1", True), ("true", True), ("Yes", True), ("ON", True), ("0", False), ("False", False), ("no", False),
    ("off", False),
])  # fmt: skip
def test_a_variable_says_yes_or_no_in_the_usual_ways(text, value, variable):
    variable("VTASKS_RUN_SCHEDULER", text)

    assert conf.current().run_scheduler is value


@pytest.mark.parametrize("value", ["auto", 1, "2"])
def test_the_number_of_processes_may_be_left_to_the_machine(value, variable):
    variable("VTASKS_PROCESSES", str(value))

    assert conf.current().processes == ("auto" if value == "auto" else int(value))


def test_all_that_is_wrong_is_told_at_once():
    with override_settings(VTASKS_LEASE=0, VTASKS_DLQ_CAP=0, VTASKS_CONCURENCY=3):
        assert {problem.setting for problem in conf.problems()} == {
            "VTASKS_LEASE",
            "VTASKS_DLQ_CAP",
            "VTASKS_CONCURENCY",
        }
        with pytest.raises(ConfigError, match=r"VTASKS_CONCURENCY.*VTASKS_DLQ_CAP.*VTASKS_LEASE"):
            conf.current()


# Names that are wrong


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("VTASKS_QUEUE", "VTASKS_QUEUES"),
        ("VTASKS_BATCH_QUEUE", "VTASKS_BATCH_QUEUES"),
        ("VTASKS_CONCURENCY", "VTASKS_CONCURRENCY"),
        ("VTASKS_SHEDULE", "VTASKS_SCHEDULE"),
        ("VTASKS_SHUTDOWN_TIME_OUT", "VTASKS_SHUTDOWN_TIMEOUT"),
    ],
)
def test_a_misspelt_setting_is_a_problem_with_the_nearest_name(misspelt, meant):
    problem = the_problem(**{misspelt: 1})

    assert problem.setting == misspelt
    assert problem.message == f"{misspelt} is not a setting of django-vtasks. Did you mean {meant!r}?"


def test_a_setting_like_no_other_is_a_problem_too():
    problem = the_problem(VTASKS_THE_COLOUR_OF_THE_WALLPAPER=1)

    assert problem.message == "VTASKS_THE_COLOUR_OF_THE_WALLPAPER is not a setting of django-vtasks."


def test_a_misspelt_variable_is_a_problem_with_the_nearest_name(variable):
    variable("VTASKS_CONCURENCY", "3")

    with pytest.raises(ConfigError, match=r"variable VTASKS_CONCURENCY is not .* Did you mean 'VTASKS_CONCURRENCY'\?"):
        conf.current()


@pytest.mark.parametrize("name", ["VTASKS_REQUIRE_SERVERS", "TASKS_QUEUES", "XVTASKS_QUEUES"])
def test_a_variable_that_is_like_no_setting_is_somebody_elses(name, variable):
    variable(name, "1")

    assert conf.problems() == ()


def test_settings_of_others_are_left_alone():
    with override_settings(TASKS_QUEUE=1, QUEUES=2, MY_VTASKS_QUEUE=3):
        assert conf.problems() == ()
