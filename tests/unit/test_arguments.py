"""Arguments become plain JSON when a task is enqueued, or the enqueue is a TypeError."""

import json
from array import array
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from django.db.models import IntegerChoices, TextChoices
from django.utils.json import normalize_json
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from django_vtasks import wire
from django_vtasks.publishing import Template, plain
from tests.app.tasks import take


class Shade(StrEnum):
    DARK = "dark"

    def __str__(self):
        return "a shade"


class Size(IntEnum):
    LARGE = 3


class Mode(IntFlag):
    READ = 4


class Colour(TextChoices):
    RED = "red", "Red as a rose"


class Rank(IntegerChoices):
    FIRST = 1, "The first"


class NumberLikeNumpys(float):
    """Has what numpy.float64 has: float as its base, and a repr of its own."""

    def __repr__(self):
        return f"np.float64({float.__repr__(self)})"


class Count(int):
    def __str__(self):
        return "many"

    __repr__ = __str__


class Label(str):
    __slots__ = ()

    def __str__(self):
        return "a label"


Point = namedtuple("Point", "x y")  # noqa: PYI024 - has no types to be normalised by


@dataclass
class Record:
    field: int = 1


class Plain(Enum):
    ONE = 1


def sent(*args, **kwargs):
    """Return the arguments of an enqueued task as the caller's result has them."""
    envelope = Template(take, max_rescues=0).filled(args, kwargs)
    return envelope.args, envelope.kwargs


def received(*args, **kwargs):
    """Return the arguments of an enqueued task as the function will get them."""
    envelope = wire.decode(wire.encode(Template(take, max_rescues=0).filled(args, kwargs)))
    return envelope.args, envelope.kwargs


def types_in(value):
    """Return the types of a value and of all that it holds."""
    if isinstance(value, dict):
        return {type(value)}.union(*map(types_in, [*value, *value.values()]))
    if isinstance(value, list):
        return {type(value)}.union(*map(types_in, value))
    return {type(value)}


NORMAL: dict[str, tuple[Any, Any]] = {
    "None": (None, None),
    "True": (True, True),
    "an integer": (5, 5),
    "a large integer": (2**64, 2**64),
    "a very large integer": (-(10**300), -(10**300)),
    "a float": (1.5, 1.5),
    "a float without fraction": (2.0, 2.0),
    "text": ("naïve 漢字 🦊 \x00", "naïve 漢字 🦊 \x00"),
    "a list": ([1, [2]], [1, [2]]),
    "a tuple": ((1, (2, 3)), [1, [2, 3]]),
    "a dict": ({"a": {"b": ()}}, {"a": {"b": []}}),
    "a StrEnum": (Shade.DARK, "dark"),
    "an IntEnum": (Size.LARGE, 3),
    "an IntFlag": (Mode.READ, 4),
    "TextChoices": (Colour.RED, "red"),
    "IntegerChoices": (Rank.FIRST, 1),
    "a subclass of str": (Label("x"), "x"),
    "a subclass of int": (Count(7), 7),
    "a subclass of float": (NumberLikeNumpys(0.5), 0.5),
    "a safe string": (mark_safe("<b>"), "<b>"),
    "bytes": (b"\xc3\xa9t\xc3\xa9", "été"),
    "a named tuple": (Point(1, 2), [1, 2]),
    "a deque": (deque([1, 2]), [1, 2]),
    "a range": (range(3), [0, 1, 2]),
    "a UserList": (UserList([1]), [1]),
    "an OrderedDict": (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "a defaultdict": (defaultdict(int, a=1), {"a": 1}),
    "a UserDict": (UserDict(a=1), {"a": 1}),
    "a ChainMap": (ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
    "an enumeration within": ({"a": [(Shade.DARK, {"b": Size.LARGE})]}, {"a": [["dark", {"b": 3}]]}),
    "an enumeration as a key": ({Shade.DARK: 1, Colour.RED: 2}, {"dark": 1, "red": 2}),
    "bytes as a key": ({b"a": 1}, {"a": 1}),
    "numbers as keys": ({1: "a", 2.5: "b", Size.LARGE: "c"}, {"1": "a", "2.5": "b", "3": "c"}),
    "None as a key": ({None: 1}, {"null": 1}),
    "truth values as keys": ({True: 1, False: 2}, {"true": 1, "false": 2}),
}
BUILTINS = {type(None), bool, int, float, str, list, dict}


@pytest.mark.parametrize(("value", "normal"), NORMAL.values(), ids=NORMAL)
def test_a_value_that_json_can_say_becomes_plain(value, normal):
    for arrived in (sent(value), received(value)):
        [argument] = arrived[0]
        assert argument == normal
        assert types_in(argument) <= BUILTINS


@pytest.mark.parametrize(("value", "normal"), NORMAL.values(), ids=NORMAL)
def test_a_keyword_argument_becomes_plain_as_well(value, normal):
    assert sent(value=value) == received(value=value) == ([], {"value": normal})


@pytest.mark.parametrize(("value", "normal"), NORMAL.values(), ids=NORMAL)
def test_a_value_becomes_what_django_makes_of_it(value, normal):
    djangos, ours = (json.dumps(result, sort_keys=True) for result in (normalize_json(value), plain(value)))

    assert djangos == ours == json.dumps(normal, sort_keys=True)


UNSAID: dict[str, Any] = {
    "a datetime": datetime.now(UTC),
    "a date": date(2026, 1, 1),
    "a time": time(12),
    "a timedelta": timedelta(1),
    "a set": {1},
    "a frozenset": frozenset({1}),
    "an object": object(),
    "a class": Record,
    "a function": len,
    "a dataclass": Record(),
    "an enumeration": Plain.ONE,
    "a Decimal": Decimal("1.5"),
    "a Fraction": Fraction(1, 2),
    "a complex number": 1j,
    "a UUID": UUID(int=1),
    "a path": PurePosixPath("/"),
    "an exception": ValueError("x"),
    "a generator": (item for item in [1]),
    "the keys of a dict": {"a": 1}.keys(),
    "a lazy translation": gettext_lazy("Yes"),
    "an array of numbers that are none": array("d", [float("nan")]),
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "NaN in a subclass of float": NumberLikeNumpys("nan"),
    "infinity as a key": {float("inf"): 1},
    "a lone surrogate": "\ud800",
    "a lone surrogate as a key": {"\udcff": 1},
    "a tuple as a key": {(1, 2): 1},
    "an object as a key": {Plain.ONE: 1},
    "a number of thousands of digits as a key": {10**5000: 1},
    "keys that are the same in JSON": {1: "a", "1": "b"},
    "None and its name as keys": {None: "a", "null": "b"},
    "a text and its bytes as keys": {"a": 1, b"a": 2},
    "bytes that are no text": b"\xff",
}


@pytest.fixture(params=[take, take.using(unique=True)], ids=["plain", "unique"])
def enqueue(request):
    """Give a function that does what an enqueue does before anything is stored."""

    def enqueue(*args, **kwargs):
        return wire.encode(Template(request.param, max_rescues=0).filled(args, kwargs))

    return enqueue


@pytest.mark.parametrize("value", UNSAID.values(), ids=UNSAID)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [{"deep": (value,)}]], ids=["bare", "within"])
def test_what_json_cannot_say_is_a_type_error(enqueue, value, wrap):
    with pytest.raises(TypeError):
        enqueue(wrap(value))
    with pytest.raises(TypeError):
        enqueue(value=wrap(value))


def test_a_lone_surrogate_in_the_name_of_an_argument_is_a_type_error(enqueue):
    with pytest.raises(TypeError):
        enqueue(**{"\ud800": 1})


@pytest.mark.parametrize(
    "value", [{1: "a", 2.5: "b"}, {True: 1, None: 2}, {Size.LARGE: "c"}], ids=["numbers", "keywords", "enumeration"]
)
def test_keys_that_are_not_text_are_in_the_callers_result_as_the_task_gets_them(value):
    assert sent(value) == received(value) == ([json.loads(json.dumps(value))], {})


def test_a_unique_task_takes_keys_that_are_not_text_as_any_other_does(enqueue):
    enqueue({1: "a", 2.5: "b", "c": {None: 1}})


def test_two_keys_that_json_cannot_tell_apart_are_refused_and_none_of_them_is_lost(enqueue):
    with pytest.raises(TypeError, match="the same in JSON"):
        enqueue({1: "a", "1": "b"})


def test_a_number_with_more_digits_than_python_reads_is_refused_at_the_enqueue(enqueue):
    with pytest.raises((TypeError, ValueError)):
        enqueue(10**5000)


def test_a_value_within_itself_is_refused_at_the_enqueue(enqueue):
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(TypeError, match="nested too deeply"):
        enqueue(endless)


def test_a_caller_that_changes_its_arguments_later_does_not_change_the_task():
    items, options = [1], {"a": [1]}

    [args, kwargs] = sent(items, options=options)
    items.append(2)
    options["a"].append(2)

    assert (args, kwargs) == ([[1]], {"options": {"a": [1]}})


def test_arguments_are_left_as_the_caller_has_them():
    value = {"a": (Shade.DARK, [1])}

    sent(value)

    assert value == {"a": (Shade.DARK, [1])}
    assert isinstance(value["a"], tuple)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.lists(inner, max_size=4).map(tuple)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.lists(json_values, max_size=3), st.dictionaries(st.text("abc", min_size=1), json_values, max_size=3))
def test_any_json_arrives_as_the_json_module_would_deliver_it(args, kwargs):
    expected = json.loads(json.dumps([args, kwargs]))

    assert json.dumps(received(*args, **kwargs)) == json.dumps(sent(*args, **kwargs)) == json.dumps(expected)
