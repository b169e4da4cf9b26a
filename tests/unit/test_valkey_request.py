"""What a server says to one request."""

import pytest
from valkey.connection import DefaultParser
from valkey.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from django_vtasks.brokers.valkey.request import answer_in, checked, command

BEGUN, QUEUED = b"OK", b"QUEUED"
OUT_OF_MEMORY = DefaultParser.parse_error("OOM command not allowed when used memory > 'maxmemory'.")
WRONG_TYPE = DefaultParser.parse_error("WRONGTYPE Operation against a key holding the wrong kind of value")
FORBIDDEN = DefaultParser.parse_error("NOPERM User worker has no permissions to run the 'multi' command")
ABORTED = DefaultParser.parse_error("EXECABORT Transaction discarded because of previous errors.")
NOT_BEGUN = DefaultParser.parse_error("ERR EXEC without MULTI")


def test_the_only_answer_is_what_the_server_says():
    assert checked([7]) == 7
    assert checked([None]) is None
    assert checked([[1, 0, 1]]) == [1, 0, 1]


def test_a_transaction_answers_for_all_its_commands():
    assert checked([BEGUN, QUEUED, QUEUED, [1, 2]]) == [1, 2]


def test_a_transaction_that_was_not_taken_tells_why_and_not_that_it_was_not():
    assert answer_in([BEGUN, OUT_OF_MEMORY, QUEUED, ABORTED]) is OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'", OutOfMemoryError),
        ("READONLY You can't write against a read only replica", ReadOnlyError),
    ],
)
def test_a_transaction_that_is_discarded_at_its_end_tells_what_has_become_of_the_server_meanwhile(reason, kind):
    ended = DefaultParser.parse_error(f"EXECABORT Transaction discarded because of: {reason}.")

    assert type(answer_in([BEGUN, QUEUED, QUEUED, ended])) is kind


def test_a_command_that_fails_within_a_transaction_is_not_passed_over():
    assert answer_in([BEGUN, QUEUED, QUEUED, [1, WRONG_TYPE, 1]]) is WRONG_TYPE


def test_where_no_transaction_may_be_begun_the_commands_have_been_run_one_by_one():
    assert checked([FORBIDDEN, 1, 2, NOT_BEGUN]) == [1, 2]
    assert answer_in([FORBIDDEN, 1, WRONG_TYPE, NOT_BEGUN]) is WRONG_TYPE


def test_an_error_among_the_results_of_a_single_call_is_for_who_has_called():
    assert answer_in([[1, WRONG_TYPE]]) == [1, WRONG_TYPE]


def test_an_error_is_raised_where_it_is_not_looked_for():
    with pytest.raises(ResponseError, match="not allowed"):
        checked([OUT_OF_MEMORY])


def test_a_request_behind_another_has_its_answers_behind_those_of_the_other():
    both = command("PING").then(command("DEL", "key", 1))

    assert both.packed == b"*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nDEL\r\n$3\r\nkey\r\n$1\r\n1\r\n"
    assert both.answers == 2
