"""The database backend of Django's reference implementation; its worker runs one task at a time."""

from load_tests.bench.contender import NO_BATCH, NO_BULK, NO_UNIQUE, Contender, each_alone

CONTENDER = Contender(
    name="django_tasks_db",
    module="on_django_tasks_db",
    requirements=("django-tasks-db==0.13.0", "django>=6.0", "psycopg[binary]"),
    distributions=("django-tasks-db", "django", "psycopg"),
    backends={"postgres": (), "sqlite": (), "mariadb": ("mysqlclient>=2.2.1",)},
    promise="stays RUNNING: nothing looks for it",
    worker=each_alone(
        ["python", "-m", "django", "db_worker", "--queue-name={queue}", "--no-startup-delay", "--verbosity=0"]
    ),
    lacks=NO_BATCH | NO_BULK | NO_UNIQUE,
    environ={"DJANGO_SETTINGS_MODULE": "on_django_tasks_db.settings"},
)
