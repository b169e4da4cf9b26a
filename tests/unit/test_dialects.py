"""Which errors of a database are worth another try at once."""

import pytest
from django.db import OperationalError

from django_vtasks.brokers.database.mysql import MySQL
from django_vtasks.brokers.database.postgresql import PostgreSQL


class DriverError(Exception):
    def __init__(self, sqlstate):
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def postgresqls(sqlstate):
    error = OperationalError("no")
    error.__cause__ = DriverError(sqlstate)
    return error


@pytest.mark.parametrize("code", [1213, 1020], ids=["deadlock", "changed since read"])
def test_what_another_try_mends_is_transient_on_mysql(code):
    assert MySQL().is_transient(OperationalError(code, "no"))


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"], ids=["serialization failure", "deadlock"])
def test_what_another_try_mends_is_transient_on_postgresql(sqlstate):
    assert PostgreSQL().is_transient(postgresqls(sqlstate))


def test_a_lock_that_was_waited_for_in_vain_is_not_waited_for_again_and_again():
    assert not MySQL().is_transient(OperationalError(1205, "Lock wait timeout exceeded"))
    assert not PostgreSQL().is_transient(postgresqls("55P03"))


def test_a_lock_that_was_waited_for_in_vain_is_told_from_other_errors():
    assert MySQL().is_lock_timeout(OperationalError(1205, "Lock wait timeout exceeded"))
    assert PostgreSQL().is_lock_timeout(postgresqls("55P03"))

    assert not MySQL().is_lock_timeout(OperationalError(1213, "Deadlock found"))
    assert not MySQL().is_lock_timeout(OperationalError())
    assert not PostgreSQL().is_lock_timeout(postgresqls("57014"))
    assert not PostgreSQL().is_lock_timeout(OperationalError())


def test_an_error_that_says_nothing_is_not_transient():
    assert not MySQL().is_transient(OperationalError())
    assert not PostgreSQL().is_transient(OperationalError())
