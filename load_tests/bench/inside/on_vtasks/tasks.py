import work
from recorder import record

from django_vtasks import task


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


@task(queue_name="batches")
async def batch(members):
    for member in members:
        record(member["args"][0])
