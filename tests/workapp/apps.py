"""What a test changes in every process of a worker."""

import os

from django.apps import AppConfig

DEADLINE_VARIABLE = "TEST_BROKER_DEADLINE"
LIVENESS_VARIABLE = "TEST_ACTOR_LIVENESS"
DUMP_GRACE = 0.5


class WorkAppConfig(AppConfig):
    name = "tests.workapp"

    def ready(self):
        """Make broker and supervisor as impatient as a test must have them that waits for their end."""
        if deadline := os.environ.get(DEADLINE_VARIABLE):
            from django_vtasks.brokers.database import DatabaseBroker

            assert DatabaseBroker.__init__.__kwdefaults__ is not None
            DatabaseBroker.__init__.__kwdefaults__["deadline"] = float(deadline)
        if liveness := os.environ.get(LIVENESS_VARIABLE):
            from vtasks_supervisor import ChildSpec

            defaults = ChildSpec.__init__.__kwdefaults__
            assert defaults is not None
            defaults |= {"liveness_timeout": float(liveness), "dump_grace": DUMP_GRACE}
