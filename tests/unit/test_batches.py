"""What a batch function gets, and how what it says of its members is understood."""

from collections.abc import Mapping

import pytest

from django_vtasks import batches
from django_vtasks.errors import BatchFailed

ODD = ValueError("odd")
IDS = ["a", "b", "c"]


class Unreadable(Mapping):
    def __getitem__(self, key):
        raise RuntimeError("gone")

    def __iter__(self):
        raise RuntimeError("gone")

    def __len__(self):
        return 1


class OwnWords(BatchFailed):
    """A project's exception that knows nothing of its base's attribute."""

    def __init__(self):
        Exception.__init__(self, "own words")


def test_a_member_has_the_keys_that_are_documented():
    member = batches.member(task_id="a", queue="q", path="p.f", args=[1], kwargs={"b": 2}, enqueued_at=None, attempt=3)

    assert member == {
        "id": "a", "queue": "q", "func": "p.f", "args": [1], "kwargs": {"b": 2}, "enqueued_at": None, "attempt": 3,
    }  # fmt: skip


class TestReturn:
    @pytest.mark.parametrize("value", [{"a": ODD}, {"a": None, "b": ODD}, {"a": ODD, "b": ODD, "c": None}, {}])
    def test_a_mapping_of_members_to_errors_is_what_became_of_them(self, value):
        assert batches.fates_of_return(value, IDS) == value

    @pytest.mark.parametrize(
        "value",
        [None, 3, "a", ["a"], {"sent": 3}, {"stranger": None}],
    )
    def test_what_is_not_about_members_says_nothing(self, value):
        assert batches.fates_of_return(value, IDS) == {}

    @pytest.mark.parametrize(
        "value", [{"a": "no exception"}, {"a": ValueError}, {"stranger": ODD}, {"a": ODD, "stranger": None}, {0: ODD}]
    )
    def test_a_mapping_that_is_wrong_about_its_members_does_not_pass_for_a_success(self, value):
        fates = batches.fates_of_return(value, IDS)

        assert fates.keys() == set(IDS)
        assert {type(error) for error in fates.values()} == {ValueError}

    def test_what_it_said_is_not_changed_by_what_it_does_to_the_mapping_later(self):
        value = {"a": ODD}
        fates = batches.fates_of_return(value, IDS)
        value.clear()

        assert fates == {"a": ODD}

    def test_a_mapping_that_cannot_be_read_is_the_functions_failure(self):
        with pytest.raises(RuntimeError):
            batches.fates_of_return(Unreadable(), IDS)


class TestError:
    def test_any_exception_is_the_failure_of_all(self):
        assert batches.fates_of_error(ODD, IDS) == dict.fromkeys(IDS, ODD)

    def test_batch_failed_names_those_that_failed(self):
        assert batches.fates_of_error(BatchFailed({"b": ODD}), IDS) == {"b": ODD}

    def test_batch_failed_of_nobody_fails_nobody(self):
        assert batches.fates_of_error(BatchFailed({}), IDS) == {}

    def test_batch_failed_that_names_a_stranger_fails_all(self):
        error = BatchFailed({"a": ODD, "stranger": ODD})

        assert batches.fates_of_error(error, IDS) == dict.fromkeys(IDS, error)

    def test_batch_failed_without_errors_fails_all(self):
        error = OwnWords()

        assert batches.fates_of_error(error, IDS) == dict.fromkeys(IDS, error)

    def test_a_subclass_that_keeps_the_errors_names_those_that_failed(self):
        class Rejected(BatchFailed):
            pass

        assert batches.fates_of_error(Rejected({"c": ODD}), IDS) == {"c": ODD}


class TestBatchFailed:
    @pytest.mark.parametrize("errors", [None, [], "a", {"a": "no exception"}, {"a": None}, {"a": ValueError}])
    def test_takes_nothing_but_a_mapping_to_exceptions(self, errors):
        with pytest.raises(TypeError, match="mapping of members' ids to exceptions"):
            BatchFailed(errors)

    def test_says_how_many_there_are(self):
        assert str(BatchFailed({"a": ODD, "b": ODD})) == "2 members of a batch failed."

    def test_keeps_the_errors_that_it_was_given(self):
        errors = {"a": ODD}
        failed = BatchFailed(errors)
        errors.clear()

        assert failed.errors == {"a": ODD}
