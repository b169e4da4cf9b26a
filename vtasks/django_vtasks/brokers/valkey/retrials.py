"""Failed tasks that shall run again."""

import time
from collections.abc import Collection

from django_vtasks import wire
from django_vtasks.brokers.base import Retrial
from django_vtasks.brokers.valkey.failed import FailedList, entry_of, envelope_of
from django_vtasks.brokers.valkey.keys import Keys
from django_vtasks.brokers.valkey.link import Link
from django_vtasks.brokers.valkey.pushing import arguments_of_push

OUTCOMES = {1: Retrial.RETRIED, 0: Retrial.DUPLICATE, None: Retrial.UNKNOWN}


class Retrials:
    """Move records of the failed list back to their queues, one by one."""

    def __init__(self, keys: Keys, link: Link, failed: FailedList) -> None:
        self._keys = keys
        self._link = link
        self._failed = failed

    def retry(self, task_ids: Collection[str]) -> dict[str, Retrial]:
        """Move the newest record of each task."""
        found = self._failed.find(set(task_ids))
        return {
            task_id: self._retry_one(found[task_id]) if task_id in found else Retrial.UNKNOWN for task_id in task_ids
        }

    def _retry_one(self, record: bytes) -> Retrial:
        envelope = envelope_of(record)
        if envelope is None:
            return Retrial.UNREADABLE
        anew = envelope.anew(time.time())
        payload = wire.encode_anew(anew, entry_of(record).payload)
        keys, arguments = arguments_of_push([anew], [payload], self._keys)
        return OUTCOMES[self._link.call("retry", [self._keys.failed, *keys], [record, *arguments])]
