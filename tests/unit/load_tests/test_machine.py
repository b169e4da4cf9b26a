import pytest

from load_tests.bench import machine


def test_a_machine_is_described_by_what_figures_depend_on():
    described = machine.describe()
    assert described.keys() == {"cpu", "cores", "kernel", "python"}
    assert all(described.values())


@pytest.mark.parametrize(("cores", "calm"), [(1000.0, True), (-1.0, False)])
def test_one_waits_for_a_calm_machine_no_longer_than_patience(cores, calm):
    assert machine.wait_until_calm(cores, patience=0.0, interval=0.001) is calm


def test_work_makes_a_machine_busy():
    before = machine.busy_seconds()
    while machine.busy_seconds() == before:
        pass
    assert machine.busy_seconds() > before
