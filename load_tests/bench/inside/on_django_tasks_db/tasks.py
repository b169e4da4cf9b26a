import work
from django.tasks import task
from recorder import record


@task
async def noop(number):
    record(number)


@task
def noop_sync(number):
    record(number)


@task
async def sleep(number):
    await work.sleep(number)


@task
async def payload(number, text):
    record(number)


@task
async def hold(number):
    await work.hold(number)
