"""The public package of the same guide, whose figures are the unit of the goals."""

from load_tests.bench.contender import Contender, each_alone

CONTENDER = Contender(
    name="django_vtasks_320",
    module="on_vtasks",
    requirements=("django-vtasks[metrics,valkey]==3.2.0", "django>=6.0", "psycopg[binary]", "uvloop"),
    distributions=("django-vtasks", "django", "django-vcache", "orjson", "psycopg", "uvloop"),
    backends={"valkey": (), "postgres": (), "sqlite": (), "mariadb": ("mysqlclient>=2.2.1",)},
    promise=(
        "is put among the failed ones by the next sweep of its host, one each 30 s, unless one sets "
        "VTASKS_MAX_RESCUES; members of a batch in Valkey are lost: at most once"
    ),
    worker=each_alone(
        [
            *("python", "-m", "django", "runworker", "--verbosity=0", "--queue={queue}"),
            *("--concurrency={concurrency}", "--metrics-port={port}"),
        ]
    ),
    takes_over=True,
    signals=True,
    environ={"DJANGO_SETTINGS_MODULE": "on_vtasks.settings"},
)
