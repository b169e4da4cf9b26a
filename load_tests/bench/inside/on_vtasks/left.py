"""What ended workers of 3.2.0 have left, which it leaves to a sweep, each 30 s, that puts it among the failed tasks."""


async def give_back(backend, queue):
    """Put it into its queue again; workers of this package give back themselves what they hold when they end."""
    if hasattr(backend, "driver"):
        await _give_back_in_valkey(backend, queue)
    elif hasattr(backend, "_rescue_tasks"):
        await _give_back_in_database()


async def _give_back_in_valkey(backend, queue):
    key_of, driver = backend._get_key, backend.driver  # noqa: SLF001 - it has no door to what was left
    for key in await driver.scan_all(key_of("processing:*")):
        while (task := await driver.rpop(key)) is not None:
            await driver.lpush(key_of(f"q:{queue}"), [task])


async def _give_back_in_database():
    from django_vtasks.db import models

    held = models.QueuedTask.objects.filter(status=models.TaskStatus.PROCESSING)
    await held.aupdate(status=models.TaskStatus.QUEUED, worker_id=None)
