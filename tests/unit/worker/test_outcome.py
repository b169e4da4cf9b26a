"""Exceptions as text, however odd."""

import asyncio

import pytest

from django_vtasks.worker.outcome import MAX_MESSAGE, MAX_TRACEBACK, failure_of


def throw(error):
    raise error


def raised(error):
    try:
        throw(error)
    except BaseException as caught:  # noqa: BLE001  # any of them
        return failure_of(caught)


class Inner:
    class Refusal(Exception):
        pass


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


class NoText(Exception):
    def __str__(self):
        return 7  # noqa: PLE0307


class Deadly(Exception):
    def __init__(self, last_words):
        super().__init__()
        self.last_words = last_words

    def __str__(self):
        raise self.last_words


def test_an_exception_is_its_dotted_path_its_message_and_its_traceback():
    failure = raised(ValueError("no such address"))

    assert (failure.exception, failure.message) == ("builtins.ValueError", "no such address")
    assert "in throw" in failure.traceback
    assert failure.traceback.endswith("ValueError: no such address\n")


def test_a_nested_class_has_its_full_path():
    assert raised(Inner.Refusal()).exception == f"{__name__}.Inner.Refusal"


def test_the_cause_is_in_the_traceback():
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    failure = raised(error)

    assert "KeyError" in failure.traceback
    assert "direct cause" in failure.traceback


@pytest.mark.parametrize("error", [Mute(), NoText()], ids=lambda error: type(error).__name__)
def test_an_exception_that_cannot_describe_itself_is_described_all_the_same(error):
    failure = raised(error)

    assert failure.exception == f"{__name__}.{type(error).__name__}"
    assert failure.message
    assert "in throw" in failure.traceback


# Not KeyboardInterrupt, which would end the tests.
@pytest.mark.parametrize("last_words", [SystemExit(1), GeneratorExit(), asyncio.CancelledError()])
def test_an_exception_whose_description_raises_more_than_exceptions_ends_nobody(last_words):
    failure = raised(Deadly(last_words))

    assert failure.exception == f"{__name__}.Deadly"
    assert failure.message


def test_what_is_kept_is_bounded_and_the_end_of_the_traceback_is_what_is_kept():
    failure = raised(ValueError("x" * 1_000_000 + "the end"))

    assert len(failure.message) == MAX_MESSAGE
    assert len(failure.traceback) <= MAX_TRACEBACK
    assert failure.traceback.endswith("the end\n")


def test_a_recursion_error_is_described():
    def recurse():
        return recurse() + 1

    with pytest.raises(RecursionError) as caught:
        recurse()
    failure = failure_of(caught.value)

    assert failure.exception == "builtins.RecursionError"
    assert "recurse" in failure.traceback


def test_a_group_shows_its_members():
    failure = raised(BaseExceptionGroup("two", [SystemExit(1), ValueError("first")]))

    assert failure.exception == "builtins.BaseExceptionGroup"
    assert "ValueError: first" in failure.traceback
