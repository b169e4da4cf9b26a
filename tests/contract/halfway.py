"""A program that stops in the middle of a tick, and says so: `python -m tests.contract.halfway ALIAS SLOT ENTRY…`."""

import os
import sys
import threading

import django


def main(alias: str, slot: str, *entries: str) -> None:
    from django_vtasks.brokers.database import DatabaseBroker
    from tests.contract.given import due
    from tests.contract.steps import SOON

    broker = DatabaseBroker(using=alias)
    broker._role_gateway.deadline = SOON
    ticking = broker._ticking
    push = ticking._push

    def push_and_stop(*args):
        push(*args)
        sys.stdout.write("halfway\n")
        sys.stdout.flush()
        threading.Event().wait()

    ticking._push = push_and_stop
    broker.tick([due(entry, float(slot)) for entry in entries])


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    main(*sys.argv[1:])
