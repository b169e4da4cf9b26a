"""A Django app whose tasks the tests' workers run."""
