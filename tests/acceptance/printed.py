"""What the user's guide prints, in its order; a test runs each block as it stands here."""

DEFINING_TASKS = '''
# myapp/tasks.py
from django_vtasks import task

@task
def send_email(to: str, subject: str, body: str):
    """Send an email."""
    # Your email sending logic
    pass

@task
async def process_image(image_id: int):
    """Process an image asynchronously."""
    # Async tasks are processed natively without thread overhead
    pass
'''

BASIC_ENQUEUE_SYNCHRONOUS = """
from myapp.tasks import send_email

# Synchronous
result = send_email.enqueue("user@example.com", "Hello", "Welcome!")
"""

BASIC_ENQUEUE_ASYNCHRONOUS = """
from myapp.tasks import send_email

# Asynchronous (preferred)
result = await send_email.aenqueue("user@example.com", "Hello", "Welcome!")
"""

USING = """
# Route to a specific queue
await send_email.using(queue_name="emails").aenqueue(
    "user@example.com", "Hello", "Welcome!"
)

# Set priority
await send_email.using(priority=10).aenqueue(
    "admin@example.com", "Urgent", "Server down!"
)

# Combine multiple options
await send_email.using(
    queue_name="high-priority",
    priority=10,
    unique=True,
).aenqueue("admin@example.com", "Alert", "Important message")
"""

BULK = """
from django.tasks import task_backends
from myapp.tasks import process_user, cleanup_job

tasks_to_send = [
    # (task, args, kwargs)
    (process_user, (user1.id,), {}),
    (process_user, (user2.id,), {}),
    (cleanup_job, (), {"queue_name": "low_priority"}),
]
"""

BULK_ASYNCHRONOUS = """
# Async context
await task_backends["default"].aenqueue_many(tasks_to_send)
"""

BULK_SYNCHRONOUS = """
# Sync context (usually within a transaction)
task_backends["default"].enqueue_many(tasks_to_send)
"""

MUTEX = """
# Auto-generated unique key from task name + args
result = await send_email.using(unique=True).aenqueue(
    "user@example.com", "Welcome", "..."
)

# If the task is already queued or running, this returns None
result2 = await send_email.using(unique=True).aenqueue(
    "user@example.com", "Welcome", "..."
)
# result2 is None (rejected as duplicate)
"""

CUSTOM_KEY = """
result = await send_email.using(
    unique=True,
    unique_key=f"email-user-{user_id}"
).aenqueue("user@example.com", "Welcome", "...")
"""

THROTTLING = """
# Only allow 1 API call per 60 seconds
await fetch_data.using(
    unique=True,
    unique_key=f"api-fetch-{user_id}",
    ttl=60,
    remove_unique_on_complete=False,  # Throttle mode
).aenqueue(user_id)
"""

HANDLING_REJECTIONS = """
async def view(request, user):
    result = await send_email.using(unique=True).aenqueue(user.id)

    if result is None:
        # Task was rejected (duplicate found)
        return JsonResponse({"error": "Email already being sent"}, status=429)
    else:
        # Task was enqueued successfully
        return JsonResponse({"task_id": result.id})
"""

PRIORITY_HIGH = """
# High priority task (processed first)
await send_email.using(priority=10).aenqueue(user.id)
"""

PRIORITY_LOW = """
# Low priority task
await send_email.using(priority=-10).aenqueue(user.id)
"""

PERIODIC_TASKS = """
# settings.py
from django_vtasks.scheduler import crontab

VTASKS_SCHEDULE = {
    "daily_report": {
        "task": "myapp.tasks.report",
        "schedule": crontab(hour=5, minute=0),  # Runs at 5:00 AM
    },
    "cleanup": {
        "task": "myapp.tasks.cleanup",
        "schedule": 3600,  # Runs every hour (in seconds)
    },
}
"""

WITH_SCHEDULER = "python manage.py runworker --scheduler"

BATCH_QUEUE = """
# settings.py
VTASKS_BATCH_QUEUES = {
    "batch_queue": {
        "count": 100,  # Max tasks to fetch at once
        "timeout": 5.0,  # Max seconds to wait for tasks
    }
}
"""

BATCH_TASK = '''
@task
def process_widgets_batch(tasks: list[dict]):
    """Processes a batch of widgets."""
    widget_ids = [task["kwargs"]["widget_id"] for task in tasks]
    Widget.objects.filter(id__in=widget_ids).update(processed=True)
    print(f"Processed {len(widget_ids)} widgets")
'''

ENQUEUE_TO_BATCH_QUEUE = """
for i in range(10):
    process_widgets_batch.using(queue_name="batch_queue").enqueue(widget_id=i)
"""

METRICS_EXTRA = """
pip install "django-vtasks[metrics]"
"""

AVAILABLE_METRICS = """
| Metric | Type | Labels | Description |
|---|---|---|---|
| `tasks_submitted_total` | Counter | `task_name`, `queue` | Tasks enqueued |
| `tasks_processed_total` | Counter | `task_name`, `queue`, `status` | Tasks processed |
| `task_duration_seconds` | Histogram | `task_name`, `queue` | Execution time |
| `active_tasks` | Gauge | `queue` | Currently processing |
| `queue_depth` | Gauge | `queue` | Tasks waiting |
"""

WITH_METRICS = "python manage.py runworker --metrics-port 9100"

CLEAR_A_QUEUE = """
# Clear a specific queue
python manage.py clear_queue --backend-alias=default --queue=default
"""

CLEAR_ALL_QUEUES = """
# Clear all queues
python manage.py clear_queue --backend-alias=default --all-queues --force
"""

CLEAR_FAILED = """
# Clear failed tasks (DLQ)
python manage.py clear_queue --backend-alias=default --failed --force
"""

TESTING = """
from django.test import TestCase, override_settings

@override_settings(
    TASKS={
        "default": {
            "BACKEND": "django_vtasks.backends.immediate.ImmediateBackend",
        }
    }
)
class MyTaskTests(TestCase):
    def test_something(self):
        # Tasks run immediately and synchronously
        my_task.enqueue()
        # ... assertions
"""

TESTING_BATCHES = """
@override_settings(
    TASKS={"default": {"BACKEND": "django_vtasks.backends.immediate.ImmediateBackend"}},
    VTASKS_BATCH_QUEUES={"batch_queue": {"count": 100, "timeout": 5.0}}
)
class MyBatchingTest(TestCase):
    def test_batching(self):
        backend = task_backends["default"]

        for i in range(5):
            process_batch.using(queue_name="batch_queue").enqueue(item_id=i)

        # Tasks are stored, not executed
        self.assertEqual(len(backend.pending_batches["batch_queue"]), 5)

        # Manually trigger batch processing
        backend.flush_batch("batch_queue")

        # Now verify your batch logic ran
        self.assertEqual(len(backend.pending_batches["batch_queue"]), 0)
"""
