"""This checkout."""

from pathlib import Path

from load_tests.bench.contender import Contender, one_parent

ROOT = Path(__file__).parents[3]

CONTENDER = Contender(
    name="vtasks",
    module="on_vtasks",
    requirements=(f"{ROOT}[valkey,postgres,uvloop,metrics]",),
    distributions=("django-vtasks", "django", "valkey", "libvalkey", "psycopg", "uvloop"),
    backends={"valkey": (), "postgres": (), "sqlite": (), "mariadb": ("mysqlclient>=2.2.1",)},
    promise="runs again at once, in another process: at least once",
    worker=one_parent(
        [
            *("python", "-m", "django", "runworker", "--verbosity=0", "--queue={queue}"),
            *("--processes={processes}", "--concurrency={concurrency}", "--metrics-port={port}"),
        ]
    ),
    takes_over=True,
    signals=True,
    environ={"DJANGO_SETTINGS_MODULE": "on_vtasks.settings"},
)
