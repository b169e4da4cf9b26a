"""What the bounds of a scenario make of the account of a run."""

import msgspec
import pytest

from django_vtasks.brokers.base import FailedTask, TaskFailure
from load_tests.chaos.account import Account, account
from load_tests.chaos.conductor import _hold_against_bounds, _look_for_causes
from load_tests.chaos.ground import Ground
from load_tests.chaos.grounds import ValkeyGround
from load_tests.chaos.run import Run
from load_tests.chaos.scenario import Bounds, Scenario

HONEST = account([], (), ())


def replaced(field: str) -> Account:
    return Account(**{**HONEST._asdict(), field: ["t1"]})


@pytest.fixture
def judged(tmp_path_factory):
    """Give a function that holds an account against bounds and returns the problems."""

    def judge(found=HONEST, bounds=None, *, kind=Ground, delays=(), backs=(), lines=()):
        directory = tmp_path_factory.mktemp("run")
        scenario = Scenario(
            name="any", faults=(), sentence="Any.", inject=lambda _run: None, bites=(), bounds=bounds or Bounds()
        )
        run = Run(scenario, kind(directory), directory, seed=7, seconds=1.0)
        (run.ledger.directory / "1.jsonl").write_text("".join(f"{line}\n" for line in lines))
        _hold_against_bounds(run, found, list(delays), list(backs))
        return run.problems

    return judge


@pytest.fixture
def run(tmp_path):
    scenario = Scenario(name="any", faults=(), sentence="Any.", inject=lambda _run: None, bites=())
    return Run(scenario, Ground(tmp_path), tmp_path, seed=7, seconds=1.0)


class TestComeback:
    @pytest.fixture
    def fed(self, run):
        """Note that each of two queues is fed ten calls a second, of which so many end, from 10 s on."""

        def note(**pauses):
            lines = []
            for queue, pause in pauses.items():
                for number in range(30):
                    key = f"{queue}{number}"
                    lines.append(f'["accept", "{key}", {10 + number / 10}, 1, "id-{key}", "{queue} 0"]')
                    lines.append(f'["end", "{key}", {11 + number * pause}, 2, "id-{key}", "1"]')
                run.usual_of[queue] = 10.0
            (run.ledger.directory / "1.jsonl").write_text("".join(f"{line}\n" for line in lines))
            return run

        return note

    def test_is_that_of_the_queue_that_comes_last(self, fed):
        run = fed(one=0.1, other=0.05)

        assert run.comeback(10.0) == pytest.approx(1.0)

    def test_is_none_as_long_as_one_queue_is_not_back_although_the_other_makes_up_for_it(self, fed):
        run = fed(one=0.02, other=1.0)

        assert run.comeback(10.0) is None


@pytest.mark.parametrize("cause", [("", "gone"), ("builtins.ValueError", "")])
def test_each_failed_task_has_a_cause(run, cause):
    whole = FailedTask("good", "default", "tasks.work", TaskFailure("builtins.ValueError", "gone"), 1.0, 1, 0)
    _look_for_causes(run, [whole])
    assert run.problems == []

    _look_for_causes(run, [whole, msgspec.structs.replace(whole, id="bad", failure=TaskFailure(*cause))])
    assert run.problems == ["failed, and no cause is kept: bad"]


def test_nothing_is_wrong_with_nothing(judged):
    assert judged() == []


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("lost", "lost: t1"),
        ("duplicates", "run again for no reason: t1"),
        ("spurious", "failed for no fault of theirs: t1"),
        ("contradictory", "ended twice: t1"),
        ("overlaps", "accepted while its equal was under way: t1"),
        ("strangers", "ran unasked: t1"),
        ("unsettled", "ended, and no store was told: t1"),
        ("rebuffed", "refused for no reason: t1"),
    ],
)
def test_each_key_that_breaks_a_promise_is_a_problem(judged, field, problem):
    assert judged(replaced(field)) == [problem]


def test_the_first_of_many_are_named(judged):
    assert judged(HONEST._replace(lost=[f"t{number}" for number in range(8)])) == [
        "lost: t0, t1, t2, t3, t4 and 3 more"
    ]


def test_only_what_a_store_that_loses_can_undo_is_excused_there(judged):
    lost = HONEST._replace(lost=["t1"], contradictory=["t2"], overlaps=["sole/t3"], unsettled=["t4"])

    assert judged(lost, Bounds(loses=True)) == ["ended, and no store was told: t4"]


def test_a_process_may_not_run_more_at_once_than_it_was_told(judged):
    assert judged(HONEST._replace(at_once=8)) == []
    assert judged(HONEST._replace(at_once=9)) == ["9 tasks at once in a process that may run 8"]
    assert judged(HONEST._replace(at_once=16), Bounds(namesakes=2)) == []


def test_recoveries_have_a_bound_if_one_is_promised(judged):
    assert judged(delays=[1.0, 99.0]) == []
    assert judged(bounds=Bounds(again=2.0), delays=[1.0, 3.0]) == ["ran again later than 2 s after a death: 3.00 s"]


@pytest.mark.parametrize("back", [6.0, None], ids=["late", "never"])
def test_a_rate_that_does_not_come_back_in_time_is_a_problem(judged, back):
    assert judged(bounds=Bounds(back=5.0), backs=[4.0]) == []
    assert judged(bounds=Bounds(back=5.0), backs=[4.0, back]) == [
        f"not at nine tenths of the usual rate 5 s after an outage: {back}"
    ]


def test_a_rate_that_must_come_back_takes_an_outage(judged):
    assert judged(bounds=Bounds(back=5.0)) == ["a return is promised, and no outage has ended"]


@pytest.mark.parametrize(
    ("error", "problems"),
    [
        ("django_vtasks.errors.BrokerUnavailable", []),
        ("django.db.utils.OperationalError", []),
        ("builtins.OSError", ["an enqueue raised builtins.OSError"]),
    ],
)
def test_an_enqueue_fails_with_a_typed_error(judged, error, problems):
    assert judged(lines=[f'["error", "t1", 1.0, 1, "", "{error} 1.000"]']) == problems


@pytest.mark.parametrize("outcome", ["accept", "same", "error"])
@pytest.mark.parametrize(
    ("kind", "seconds", "problems"),
    [
        (Ground, 12.0, []),
        (Ground, 12.5, ["enqueues took longer than 12 s: 12.5 s"]),
        (ValkeyGround, 5.5, []),
        (ValkeyGround, 6.0, ["enqueues took longer than 5.5 s: 6.0 s"]),
    ],
)
def test_whoever_enqueues_learns_in_time_what_became_of_it(judged, outcome, kind, seconds, problems):
    lines = [
        '["try", "t1", 1.0, 1, "", ""]',
        f'["{outcome}", "t1", {1.0 + seconds}, 1, "id-t1", "django_vtasks.errors.BrokerUnavailable 0.0"]',
    ]

    assert judged(HONEST, kind=kind, lines=lines) == problems
    assert judged(HONEST, Bounds(answer=None), kind=kind, lines=lines) == []
