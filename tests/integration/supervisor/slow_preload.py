"""A preload that takes its time."""

from tests.integration.supervisor.actors import wait_for_go

wait_for_go()
