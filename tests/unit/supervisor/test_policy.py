"""When a child is started again, when its place is degraded, when a tree gives up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtasks_supervisor.policy import Backoff, Escalation, History, Policy, Restart, RestartBudget

POLICY = Policy()
CHANCES = st.floats(0.0, 1.0)
FAILURES = st.integers(0, 10_000)
SECONDS = st.floats(0.0, 1000.0)
GAPS = st.lists(st.floats(0.0, 120.0), max_size=40)
BACKOFFS = st.builds(
    Backoff, first=st.floats(0.001, 10.0), longest=st.floats(10.0, 600.0), forgiven_after=st.floats(0.1, 600.0)
)
BUDGETS = st.builds(RestartBudget, limit=st.integers(1, 10), window=st.floats(1.0, 600.0))


def failing(times: int, policy: Policy = POLICY, *, now: float = 0.0, every: float = 0.0) -> History:
    history = History()
    for failure in range(times):
        history = history.failed(now + failure * every, policy)
    return history


class TestRestart:
    @pytest.mark.parametrize(
        ("restart", "after_an_end", "after_a_failure"),
        [(Restart.PERMANENT, True, True), (Restart.TRANSIENT, False, True), (Restart.TEMPORARY, False, False)],
    )
    def test_says_after_which_ends_a_child_shall_run_again(self, restart, after_an_end, after_a_failure):
        assert restart.wants(normal=True) is after_an_end
        assert restart.wants(normal=False) is after_a_failure


class TestBackoff:
    @given(CHANCES)
    def test_the_first_restart_is_immediate(self, chance):
        assert Backoff().delay(0, chance) == Backoff().delay(1, chance) == 0.0

    def test_later_ones_wait_twice_as_long_each_until_the_longest(self):
        delays = [Backoff().delay(failures, chance=1.0) for failures in range(1, 13)]

        assert delays == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])

    @given(BACKOFFS, st.integers(2, 10_000), CHANCES)
    def test_chance_spreads_a_delay_over_its_upper_half_only(self, backoff, failures, chance):
        whole = backoff.delay(failures, 1.0)

        assert backoff.delay(failures, 0.0) == pytest.approx(whole / 2)
        assert whole / 2 <= backoff.delay(failures, chance) * (1 + 1e-9)
        assert backoff.delay(failures, chance) <= whole * (1 + 1e-9)

    @given(BACKOFFS, FAILURES, CHANCES)
    def test_no_delay_is_longer_than_the_longest(self, backoff, failures, chance):
        assert 0.0 <= backoff.delay(failures, chance) <= backoff.longest

    @given(BACKOFFS, FAILURES, FAILURES, CHANCES)
    def test_more_failures_never_wait_less(self, backoff, some, others, chance):
        fewer, more = sorted((some, others))

        assert backoff.delay(fewer, chance) <= backoff.delay(more, chance)


class TestRestartBudget:
    @given(BUDGETS, st.lists(SECONDS), SECONDS)
    def test_counts_what_failed_within_its_window(self, budget, failures, now):
        recent = budget.recent(failures, now)

        assert all(moment > now - budget.window for moment in recent)
        assert len(recent) + sum(moment <= now - budget.window for moment in failures) == len(failures)

    def test_is_spent_by_more_failures_than_its_limit(self):
        budget = RestartBudget(limit=2, window=60.0)

        assert not budget.is_spent([1.0, 2.0], now=3.0)
        assert budget.is_spent([1.0, 2.0, 3.0], now=3.0)
        assert not budget.is_spent([1.0, 2.0, 3.0], now=61.0)


class TestHistory:
    @given(GAPS, BACKOFFS)
    def test_counts_failures_in_a_row(self, gaps, backoff):
        assert failing(len(gaps), Policy(backoff)).failures == len(gaps)

    @given(st.integers(1, 20), st.floats(0.0, 600.0), BACKOFFS)
    def test_health_makes_the_next_failure_the_first_again(self, failures, up, backoff):
        policy = Policy(backoff)
        history = failing(failures, policy).ready(1000.0).failed(1000.0 + up, policy)

        healthy = (1000.0 + up) - 1000.0 >= backoff.forgiven_after
        assert history.failures == (1 if healthy else failures + 1)

    @given(st.integers(1, 20), st.floats(0.0, 100_000.0))
    def test_a_start_alone_forgives_nothing(self, failures, pause):
        assert failing(failures).failed(pause, Policy()).failures == failures + 1

    @given(GAPS, BUDGETS)
    def test_becomes_degraded_when_the_budget_is_spent_and_not_before(self, gaps, budget):
        policy, history, now = Policy(budget=budget), History(), 0.0
        spent_at = None
        for gap in gaps:
            now += gap
            history = history.failed(now, policy)
            if spent_at is None and budget.is_spent(history.recent, now):
                spent_at = now

        assert history.degraded_since == spent_at

    def test_can_become_degraded_when_the_clock_shows_zero(self):
        policy = Policy(budget=RestartBudget(limit=1))

        assert failing(2, policy).failed(5.0, policy).degraded_since == 0.0

    @given(st.lists(st.floats(30.0, 3600.0), min_size=1, max_size=20))
    def test_failing_seldom_is_no_recovery(self, gaps):
        history, now = failing(6), 0.0
        for gap in gaps:
            now += gap
            history = history.failed(now, Policy())

        assert history.degraded_since == 0.0

    @given(st.lists(st.floats(0.0, 59.0), min_size=1, max_size=20))
    def test_running_for_a_moment_between_failures_is_no_recovery(self, ups):
        history, now = failing(6), 100.0
        for up in ups:
            history = history.ready(now).refreshed(now + up, Policy()).failed(now + up, Policy())
            now += up + 30.0

        assert history.degraded_since == 0.0

    def test_health_and_a_budget_end_the_degradation(self):
        policy = Policy(Backoff(forgiven_after=10.0), RestartBudget(limit=1, window=60.0))
        history = failing(2, policy).ready(1.0)

        assert history.refreshed(5.0, policy).degraded_since == 0.0
        assert history.refreshed(12.0, policy).degraded_since == 0.0, "healthy, but the budget is spent"
        assert history.refreshed(61.0, policy).degraded_since is None

    def test_what_ends_as_planned_has_not_failed(self):
        history = failing(2).ready(10.0)

        assert history.ended().failures == 2
        assert history.ended().ready_since is None

    def test_remembers_that_a_child_was_ready_once(self):
        assert not failing(3).ever_ready
        assert History().ready(1.0).failed(2.0, Policy()).ever_ready


class TestEscalation:
    def test_an_empty_tree_may_go_on(self):
        assert Escalation().verdict([], now=0.0) is None

    def test_gives_up_when_no_child_was_ever_ready_in_so_many_attempts(self):
        assert Escalation(starts=3).verdict([failing(2), failing(3)], now=0.0) is None
        assert Escalation(starts=3).verdict([failing(3), failing(3)], now=0.0) == (
            "none of 2 children became ready in 3 attempts"
        )

    def test_one_child_that_was_ready_shows_that_the_deployment_is_good(self):
        assert Escalation(starts=3).verdict([failing(50), History().ready(0.0)], now=0.0) is None

    def test_gives_up_when_all_were_degraded_for_long(self):
        lame = failing(6).ready(0.0)

        assert Escalation(patience=300.0).verdict([lame, lame], now=299.0) is None
        assert Escalation(patience=300.0).verdict([lame, lame], now=300.0) == "all 2 children kept failing for 300 s"

    def test_one_place_that_works_is_enough(self):
        assert Escalation().verdict([failing(6).ready(0.0), History().ready(0.0)], now=10_000.0) is None

    @given(st.floats(0.0, 9.0))
    def test_a_place_that_fails_for_ever_ends_the_tree_in_the_end(self, up):
        policy, history, now = Policy(), History(), 0.0
        for failure in range(200):
            history = history.ready(now).refreshed(now + up, policy).failed(now + up, policy)
            now += up + policy.backoff.delay(failure + 1, chance=1.0)
            if policy.escalation.verdict([history], now):
                return

        pytest.fail(f"still no verdict after {now} s")
