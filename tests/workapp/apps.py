"""What a test changes in every process of a worker."""

import os

from django.apps import AppConfig

DEADLINE_VARIABLE = "TEST_BROKER_DEADLINE"


class WorkAppConfig(AppConfig):
    name = "tests.workapp"

    def ready(self):
        """Make the broker as impatient as a test must have it that waits for its end."""
        if deadline := os.environ.get(DEADLINE_VARIABLE):
            from django_vtasks.brokers.database import DatabaseBroker

            assert DatabaseBroker.__init__.__kwdefaults__ is not None
            DatabaseBroker.__init__.__kwdefaults__["deadline"] = float(deadline)
