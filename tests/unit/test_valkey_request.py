"""What a server says to one request."""

import pytest
from valkey.exceptions import ResponseError

from django_vtasks.brokers.valkey.request import answer_in, checked, command

BEGUN = [b"OK", b"QUEUED", b"QUEUED"]
REFUSAL, ABORT, WRONG = ResponseError("OOM"), ResponseError("EXECABORT"), ResponseError("WRONGTYPE")


def test_the_only_answer_is_what_the_server_says():
    assert checked([7]) == 7
    assert checked([None]) is None
    assert checked([[1, 0, 1]]) == [1, 0, 1]


def test_of_several_answers_the_last_counts():
    assert checked([*BEGUN, [1, 2]]) == [1, 2]
    assert checked([b"OK", 0]) == 0


def test_a_transaction_that_was_not_begun_tells_the_cause_and_not_that_it_was_not_begun():
    assert answer_in([b"OK", REFUSAL, b"QUEUED", ABORT]) is REFUSAL


def test_a_command_that_fails_within_a_transaction_is_not_passed_over():
    assert answer_in([*BEGUN, [1, WRONG, 1]]) is WRONG


def test_an_error_among_the_results_of_a_single_call_is_for_who_has_called():
    assert answer_in([[1, WRONG]]) == [1, WRONG]


def test_an_error_is_raised_where_it_is_not_looked_for():
    with pytest.raises(ResponseError, match="OOM"):
        checked([REFUSAL])


def test_a_request_behind_another_has_its_answers_behind_those_of_the_other():
    both = command("PING").then(command("DEL", "key", 1))

    assert both.packed == b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nDEL\r\n$3\r\nkey\r\n$1\r\n1\r\n"
    assert both.answers == 2
