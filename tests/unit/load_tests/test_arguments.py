import argparse

import pytest

from load_tests import arguments


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "many", ""])
def test_a_number_of_things_is_one_at_least(text):
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.count(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "long"])
def test_a_time_is_longer_than_none(text):
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.positive(text)


@pytest.mark.parametrize("text", ["-0.1", "nan", "few"])
def test_a_number_of_cores_may_be_none_but_not_less(text):
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.at_least(0.0)(text)


def test_what_makes_sense_is_taken():
    assert (arguments.count("3"), arguments.positive("0.5"), arguments.at_least(0.0)("0")) == (3, 0.5, 0.0)


def test_a_seed_is_the_one_that_was_given_also_zero_or_another_each_time():
    assert (arguments.seed_of(7), arguments.seed_of(0)) == (7, 0)
    assert len({arguments.seed_of(None) for _ in range(10)}) > 1
