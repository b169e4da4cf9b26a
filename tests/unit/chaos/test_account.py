"""What a run under faults concludes from its ledger."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.chaos.account import (
    Account,
    Execution,
    Fault,
    Verdict,
    account,
    comeback,
    delays,
    executions,
    interrupted,
    judge,
    of_queue,
    part_asked,
)
from load_tests.chaos.ledger import Event, Ledger, Pen

WORKER, OTHER, FEEDER = 10, 11, 20


def asked(key, at=0.0):
    return [Event("try", key, at, FEEDER), Event("accept", key, at + 0.1, FEEDER, f"id-{key}")]


def ran(key, start, end=None, pid=WORKER):
    run = [Event("start", key, start, pid, f"id-{key}", "1")]
    return run if end is None else [*run, Event("end", key, end, pid, f"id-{key}", "1")]


def settled(key, at=9.0, how="ack", pid=WORKER):
    return [Event("settled", "", at, pid, f"id-{key}", how)]


def add_up(*parts, failed=(), faults=()) -> Account:
    events = sorted((event for part in parts for event in part), key=lambda event: event.at)
    return account(events, set(failed), faults)


def kill(at, *pids, before=0.5):
    return Fault("kill", at, at, frozenset(pids), before)


class TestVerdict:
    def test_is_ok_when_every_fault_bit_and_nothing_is_wrong(self):
        assert judge({"kills": 3, "cuts": 1}, []) is Verdict.OK

    def test_is_vacuous_when_one_of_the_faults_met_nobody(self):
        assert judge({"kills": 3, "cuts": 0}, []) is Verdict.VACUOUS

    def test_is_vacuous_when_nothing_was_measured(self):
        assert judge({}, []) is Verdict.VACUOUS

    def test_is_a_failure_whether_or_not_the_fault_bit(self):
        assert judge({"kills": 0}, ["lost: t1"]) is Verdict.FAIL


class TestConservation:
    def test_holds_when_each_accepted_call_ran_or_failed(self):
        found = add_up(asked("a"), ran("a", 1, 2), asked("b"), failed=["id-b"])

        assert (found.accepted, found.finished, found.lost, found.spurious) == (2, 1, [], ["b"])

    def test_misses_what_was_accepted_and_never_ended(self):
        assert add_up(asked("a"), ran("a", 1), asked("b")).lost == ["a", "b"]

    def test_asks_nothing_of_calls_that_were_refused(self):
        refused = [Event("try", "a", 0.0, FEEDER), Event("error", "a", 1.0, FEEDER, "", "some.Error 1.0")]
        found = add_up(refused)

        assert (found.accepted, found.refused, found.lost) == (0, 1, [])

    def test_lets_a_call_run_of_which_nobody_knows_whether_it_was_accepted(self):
        in_doubt = [Event("try", "a", 0.0, FEEDER), Event("error", "a", 1.0, FEEDER, "", "some.Error 1.0")]

        assert add_up(in_doubt, ran("a", 1, 2)).strangers == []

    def test_finds_what_ran_unasked(self):
        assert add_up(asked("a"), ran("a", 1, 2), ran("x", 1, 2)).strangers == ["x"]

    def test_finds_what_is_done_and_in_the_failed_list(self):
        found = add_up(asked("a"), ran("a", 1, 2), settled("a"), failed=["id-a"])

        assert found.contradictory == ["a"]

    def test_finds_what_the_store_took_for_done_and_is_in_the_failed_list_as_it_should(self):
        acked, buried = settled("a"), settled("b", how="bury")

        assert account([*acked, *buried], (), (), ["id-a", "id-b"]).contradictory == ["id-a"]

    def test_finds_what_was_settled_twice(self):
        assert add_up(asked("a"), ran("a", 1, 2), settled("a", 2.1), settled("a", 3)).contradictory == ["a"]

    def test_finds_what_has_ended_and_no_store_was_told(self):
        parts = asked("a"), ran("a", 1, 2), asked("b"), ran("b", 1, 2), settled("b")

        assert add_up(*parts).unsettled == ["a"]

    def test_asks_no_settlement_of_what_ended_in_the_moment_of_a_fault(self):
        parts = asked("a"), ran("a", 1, 2)

        assert add_up(*parts, faults=[kill(2.2, WORKER)]).unsettled == []
        assert add_up(*parts, faults=[kill(2.2, OTHER)]).unsettled == ["a"]
        assert add_up(*parts, faults=[kill(4, WORKER)]).unsettled == ["a"]

    def test_lets_an_end_be_refused_whose_first_answer_a_thin_line_may_have_lost(self):
        parts = asked("a"), ran("a", 1, 2)
        late = [Event("fenced", "", 6.0, WORKER, "id-a", "ack")]
        thin = Fault("thin line", 0.5, 7.0, frozenset(), mutes=True)

        assert add_up(*parts, late, faults=[thin]).unsettled == []
        assert add_up(*parts, faults=[thin]).unsettled == ["a"]
        assert add_up(*parts, late).unsettled == ["a"]
        assert add_up(*parts, ran("a", 3, 4), faults=[thin]).duplicates == ["a"]

    def test_asks_no_settlement_of_what_is_in_the_failed_list(self):
        assert add_up(asked("a"), ran("a", 1, 2), failed=["id-a"]).unsettled == []

    def test_lets_be_settled_again_what_a_crash_of_the_store_may_have_undone(self):
        crash = Fault("restart", 2.5, 3.0, None, before=1.0, undoes=True)
        parts = asked("a"), ran("a", 1, 2), settled("a", 2.1), settled("a", 4)

        assert add_up(*parts, faults=[crash]).contradictory == []
        assert add_up(*parts, faults=[crash._replace(before=0.1)]).contradictory == ["a"]

    def test_finds_what_was_settled_twice_while_the_store_was_only_out_of_reach(self):
        dead_line = Fault("dead line", 2.0, 20.0, None, before=1.0)

        assert add_up(
            asked("a"), ran("a", 1, 2), settled("a", 2.1), settled("a", 4), faults=[dead_line]
        ).contradictory == ["a"]

    @given(st.lists(st.sampled_from(["done", "failed", "lost", "refused"])))
    def test_accounts_for_every_call_once(self, ends):
        events: list[Event] = []
        failed: set[str] = set()
        for number, end in enumerate(ends):
            key = f"t{number}"
            events += asked(key) if end != "refused" else [Event("error", key, 0.1, FEEDER)]
            events += ran(key, 1, 2) if end == "done" else []
            failed |= {f"id-{key}"} if end == "failed" else set()
        found = add_up(events, failed=failed)

        assert found.accepted == found.finished + len(found.spurious) + len(found.lost)
        assert found.refused == ends.count("refused")


class TestRunsBeyondTheFirst:
    def test_are_duplicates_without_a_fault(self):
        found = add_up(asked("a"), ran("a", 1, 2), ran("a", 3, 4, OTHER))

        assert (found.reruns, found.duplicates) == (1, ["a"])

    @pytest.mark.parametrize("end", [None, 1.8], ids=["under way", "ended and perhaps not settled"])
    def test_are_due_to_a_kill_that_met_one_of_them(self, end):
        found = add_up(asked("a"), ran("a", 1, end), ran("a", 3, 4, OTHER), faults=[kill(2, WORKER)])

        assert (found.reruns, found.duplicates) == (1, [])

    def test_are_duplicates_when_the_kill_met_another_process(self):
        assert add_up(asked("a"), ran("a", 1), ran("a", 3, 4, OTHER), faults=[kill(2, OTHER)]).duplicates == ["a"]

    def test_are_duplicates_when_the_first_had_ended_long_before(self):
        assert add_up(asked("a"), ran("a", 1, 1.2), ran("a", 3, 4, OTHER), faults=[kill(2, WORKER)]).duplicates == ["a"]

    def test_need_a_fault_each(self):
        three = ran("a", 1), ran("a", 3, 4, OTHER), ran("a", 5, 6, 12)

        assert add_up(asked("a"), *three, faults=[kill(2, WORKER)]).duplicates == ["a"]
        assert add_up(asked("a"), *three, faults=[kill(2, WORKER), kill(4.2, OTHER)]).duplicates == []

    def test_are_due_to_an_outage_during_which_the_first_was_under_way_or_about_to_be_settled(self):
        dead_line = Fault("dead line", 2.0, 10.0)

        for end in (None, 1.8, 5.0):
            assert add_up(asked("a"), ran("a", 1, end), ran("a", 9, 9.5, OTHER), faults=[dead_line]).duplicates == []
        assert add_up(asked("a"), ran("a", 1, 1.2), ran("a", 9, 9.5, OTHER), faults=[dead_line]).duplicates == ["a"]
        assert add_up(asked("a"), ran("a", 11, 12), ran("a", 13, 14, OTHER), faults=[dead_line]).duplicates == ["a"]

    def test_are_duplicates_beside_an_outage_when_the_store_had_taken_in_the_first(self):
        dead_line = Fault("dead line", 2.0, 10.0)
        parts = asked("a"), ran("a", 3, 4), settled("a", 4.1), ran("a", 5, 6, OTHER)

        assert add_up(*parts, faults=[dead_line]).duplicates == ["a"]
        assert add_up(*parts, settled("a", 6.1, pid=OTHER), faults=[dead_line]).duplicates == ["a"]
        assert add_up(*parts, faults=[dead_line._replace(undoes=True)]).duplicates == []

    def test_are_duplicates_beside_an_outage_when_only_the_last_was_not_taken_in(self):
        dead_line = Fault("dead line", 2.0, 10.0)
        both = ran("a", 3, 4), ran("a", 3.5, 5, OTHER)

        assert add_up(asked("a"), *both, settled("a", 4.1), faults=[dead_line]).duplicates == ["a"]

    def test_are_duplicates_after_a_crash_that_was_over_when_the_first_was_taken_in(self):
        crash = Fault("restart", 2.0, 4.0, undoes=True)
        parts = asked("a"), ran("a", 3, 5), settled("a", 5.1), ran("a", 6, 7, OTHER)

        assert add_up(*parts, faults=[crash]).duplicates == ["a"]

    def test_are_excused_one_by_one_when_their_process_tells_of_each_end(self):
        dead_line = Fault("dead line", 2.0, 10.0)
        parts = asked("a"), ran("a", 3, 4), ran("a", 11, 12), settled("a", 12.1)

        assert add_up(*parts, faults=[dead_line]).duplicates == []

    def test_may_come_before_that_of_a_process_which_was_frozen(self):
        thawed = Fault("freeze", 0.5, 6.0, frozenset([WORKER]))

        assert add_up(asked("a"), ran("a", 2, 3, OTHER), ran("a", 5, 5.5), faults=[thawed]).duplicates == []


class TestAProcess:
    def test_runs_as_many_at_once_as_overlap_in_it(self):
        found = add_up(ran("a", 1, 4), ran("b", 2, 3), ran("c", 2.5, 6), ran("d", 2.6, 6, OTHER), ran("e", 4, 5))

        assert found.at_once == 3

    def test_runs_for_ever_what_never_ended(self):
        assert add_up(ran("a", 1), ran("b", 5, 6)).at_once == 2

    def test_runs_no_more_what_it_gave_up(self):
        given_up = [*ran("a", 1), Event("cut", "a", 2.0, WORKER)]

        assert add_up(given_up, ran("b", 5, 6)).at_once == 1

    def test_that_ran_nothing_ran_none_at_once(self):
        assert add_up(asked("a")).at_once == 0


class TestUniqueCalls:
    def test_overlap_when_one_is_accepted_before_its_equal_has_ended(self):
        found = add_up(asked("sole/a", 0), ran("sole/a", 1, 5), asked("sole/b", 3), ran("sole/b", 6, 7))

        assert found.overlaps == ["sole/b"]

    def test_do_not_when_the_equal_had_ended(self):
        found = add_up(asked("sole/a", 0), ran("sole/a", 1, 2), asked("sole/b", 3), ran("sole/b", 6, 7))

        assert found.overlaps == []

    def test_do_not_when_nobody_knows_which_was_first(self):
        late_word = [Event("try", "sole/a", 0.0, FEEDER), Event("accept", "sole/a", 4.0, FEEDER, "id-sole/a")]
        found = add_up(asked("sole/b", 2), ran("sole/b", 3, 9), late_word, ran("sole/a", 0.5, 1))

        assert found.overlaps == []


class TestRefusals:
    def refused(self, tried=1.0, at=2.0):
        return [Event("try", "a", tried, FEEDER), Event("error", "a", at, FEEDER, note="django.db.utils.Error 1.000")]

    def test_are_for_no_reason_while_no_fault_is_in_the_way_of_everybody(self):
        assert add_up(self.refused()).rebuffed == ["a"]
        assert add_up(self.refused(), faults=[kill(1.5, WORKER)]).rebuffed == ["a"]

    @pytest.mark.parametrize(
        ("began", "ended", "is_excused"), [(0, 0.9, 0), (0, 1, 1), (1.5, 1.6, 1), (2, 9, 1), (2.1, 9, 0)]
    )
    def test_are_excused_by_an_outage_while_the_call_was_on_its_way(self, began, ended, is_excused):
        assert add_up(self.refused(), faults=[Fault("outage", began, ended)]).rebuffed == ["a"] * (not is_excused)


class TestRecovery:
    def test_is_from_the_kill_to_the_next_run_of_the_same_task(self):
        events = [*ran("a", 1), *ran("b", 1, 1.5), *ran("a", 3.5, 4, OTHER)]

        assert delays(events, [kill(2, WORKER)]) == [1.5]
        assert interrupted(events, [kill(2, WORKER)]) == 1

    def test_of_one_queue_says_nothing_of_another(self):
        healthy, stuck = (
            [
                event
                for number in range(20)
                for event in (
                    Event("accept", f"{queue}{number}", 10 + number * 0.1, FEEDER, "", f"{queue} 0"),
                    *ran(f"{queue}{number}", 10, 10 + number * pause),
                )
            ]
            for queue, pause in (("healthy", 0.1), ("stuck", 1.0))
        )
        events = [*healthy, *stuck]

        assert comeback(of_queue(events, "healthy"), 10.0, usual=10.0) == 0.0
        assert comeback(of_queue(events, "stuck"), 10.0, usual=10.0) is None

    def test_of_a_rate_is_when_nine_tenths_of_it_are_there_for_a_second(self):
        slow = [Event("end", f"s{n}", 10 + n * 0.5, WORKER) for n in range(4)]
        fast = [Event("end", f"f{n}", 13 + n * 0.1, WORKER) for n in range(30)]

        assert comeback([*slow, *fast], 10.0, usual=10.0) == 3.0
        assert comeback(slow, 10.0, usual=10.0) is None

    @pytest.mark.parametrize(
        ("pause", "part"),
        [(0.05, 1.0), (0.1, 1.0), (0.125, 0.8), (1.0, 0.5)],
        ids=["more", "same", "slower", "too slow"],
    )
    def test_is_of_what_is_asked_for_but_a_machine_is_not_slower_than_by_half(self, pause, part):
        tries = [Event("try", f"t{n}", 10 + (n + 1) * pause, FEEDER) for n in range(40)]

        assert part_asked(tries, 10.0, 10.0) == pytest.approx(part)

    def test_asks_for_what_was_refused_and_not_for_what_comes_after_the_next_outage(self):
        refused = [Event("try", f"t{n}", 10 + n * 0.1, FEEDER) for n in range(21)]
        later = [Event("try", f"l{n}", 20 + n, FEEDER) for n in range(20)]

        assert part_asked([*refused, *later], 10.0, 10.0, 20.0) == 1.0
        assert part_asked([*refused, *later], 10.0, 10.0) == 0.5

    def test_asks_for_everything_where_there_is_no_rate(self):
        assert part_asked([Event("try", "t1", 11.0, FEEDER)], 10.0, 10.0) == 1.0
        assert part_asked([Event("try", f"t{n}", 11.0, FEEDER) for n in range(9)], 0.0, 10.0) == 1.0


class TestLedger:
    def test_holds_what_several_processes_have_written_in_the_order_of_time(self, tmp_path):
        ledger = Ledger(tmp_path / "ledger")
        pen = Pen(ledger.directory)
        pen.write("start", "a", "id-a", "1")
        (ledger.directory / "1.jsonl").write_text('["try", "a", 0.5, 1, "", ""]\n')
        pen.write("end", "a", "id-a", "1")

        assert [event.kind for event in ledger.events()] == ["try", "start", "end"]
        assert executions(ledger.events()).keys() == {"a"}

    def test_leaves_a_line_that_is_being_written_for_later(self, tmp_path):
        ledger = Ledger(tmp_path / "ledger")
        file = ledger.directory / "1.jsonl"
        file.write_text('["start", "a", 0.5, 1, "", ""]\n["end", "a"')
        assert ledger.running(1) == 1
        with file.open("a") as more:
            more.write(', 0.6, 1, "", ""]\n')

        assert ledger.running(1) == 0
        assert executions(ledger.events())["a"] == [Execution(0.5, 1, 0.6)]
