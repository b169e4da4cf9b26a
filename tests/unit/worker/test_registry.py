"""Dotted path → registered task, and nothing else."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from django.utils.functional import SimpleLazyObject

from django_vtasks.errors import TaskUnavailable, UnknownTask
from django_vtasks.worker import registry as registry_module
from django_vtasks.worker.registry import Registry
from tests.workapp import tasks

TASK = "from django_vtasks import task\n@task\ndef send(): pass\n"


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Give a function that makes an installed app of source files and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(name, **files):
        for path, source in {"__init__": "", **files}.items():
            file = (tmp_path / name / path.replace(".", "/")).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        made.append(SimpleNamespace(name=name, module=__import__(name)))
        monkeypatch.setattr(registry_module, "apps", SimpleNamespace(get_app_configs=lambda: made))
        return name

    yield make
    for module in [name for name in sys.modules if name.partition(".")[0] in {config.name for config in made}]:
        del sys.modules[module]


def loaded():
    registry = Registry()
    registry.load()
    return registry


class TestLoad:
    def test_the_tasks_module_of_each_app_is_imported(self, app):
        app("first_app", tasks=TASK)
        app("second_app", tasks=TASK)
        app("app_without_tasks", models="")
        registry = loaded()

        assert registry.find("first_app.tasks.send").name == "send"
        assert registry.find("second_app.tasks.send").module_path == "second_app.tasks.send"
        assert registry.errors == {}

    def test_a_package_is_imported_with_all_its_modules(self, app):
        app(
            "deep_app",
            **{"tasks.__init__": "", "tasks.mail": TASK, "tasks.more.__init__": "", "tasks.more.images": TASK},
        )
        registry = loaded()

        assert registry.find("deep_app.tasks.mail.send")
        assert registry.find("deep_app.tasks.more.images.send")

    @pytest.mark.parametrize(
        "source", ["1 / 0", "raise SystemExit(3)", "raise KeyboardInterrupt", "import no_such_module", "def ("]
    )
    def test_a_module_that_cannot_be_imported_is_noted_and_the_others_are_loaded(self, app, caplog, source):
        app("broken_app", tasks=source)
        app("sound_app", tasks=TASK)
        registry = loaded()

        assert registry.errors.keys() == {"broken_app.tasks"}
        assert registry.find("sound_app.tasks.send")
        [record] = caplog.records
        assert "Cannot import broken_app.tasks" in record.getMessage()
        assert record.exc_info

    def test_one_broken_module_of_a_package_does_not_hide_the_others(self, app):
        app("half_app", **{"tasks.__init__": "", "tasks.a_broken": "1 / 0", "tasks.b_sound": TASK})
        registry = loaded()

        assert registry.errors.keys() == {"half_app.tasks.a_broken"}
        assert registry.find("half_app.tasks.b_sound.send")

    def test_a_task_of_a_broken_module_is_not_unknown_but_unavailable(self, app):
        app("broken_app", tasks=f"{TASK}1 / 0")

        with pytest.raises(TaskUnavailable, match=r"broken_app\.tasks\.send"):
            loaded().find("broken_app.tasks.send")

    def test_so_is_a_task_in_a_module_of_a_broken_package(self, app):
        app("broken_app", **{"tasks.__init__": "1 / 0", "tasks.mail": TASK})
        registry = loaded()

        assert registry.errors.keys() == {"broken_app.tasks"}
        with pytest.raises(TaskUnavailable):
            registry.find("broken_app.tasks.mail.send")

    def test_a_module_whose_name_begins_like_that_of_a_broken_one_is_another_one(self, app):
        app("broken_app", tasks="import broken_app.tasks_of_mail\n1 / 0", tasks_of_mail=TASK)
        registry = loaded()

        assert registry.find("broken_app.tasks_of_mail.send")
        with pytest.raises(UnknownTask):
            registry.find("broken_app.tasks_of_images.send")

    def test_it_is_available_to_whoever_can_import_the_module(self, app, tmp_path):
        app("mended_app", tasks="1 / 0")
        with pytest.raises(TaskUnavailable):
            loaded().find("mended_app.tasks.send")
        (tmp_path / "mended_app" / "tasks.py").write_text(f"{TASK}# mended, and of another size\n")

        assert loaded().find("mended_app.tasks.send").name == "send"

    def test_this_package_has_a_module_of_the_name_but_no_tasks(self):
        assert loaded().modules == ["tests.workapp.tasks", "tests.batchapp.tasks"]

    def test_a_task_that_another_module_imports_is_found_where_it_was_written(self, app):
        app("shared_app", jobs=TASK, tasks="from shared_app.jobs import send as renamed\n")
        registry = loaded()

        assert registry.find("shared_app.jobs.send")
        with pytest.raises(UnknownTask):
            registry.find("shared_app.tasks.renamed")

    def test_a_task_under_another_name_than_its_function_is_found_by_its_function(self, app):
        app("named_app", tasks="from django_vtasks import task\ndef _send(): pass\nsend = task(_send)\n")

        assert loaded().find("named_app.tasks._send")


class TestFind:
    def test_the_same_object_comes_back(self):
        registry = Registry()

        assert registry.find("tests.workapp.tasks.note") is tasks.note
        assert registry.find("tests.workapp.tasks.note") is tasks.note

    def test_a_task_of_djangos_own_decorator_is_one(self):
        assert Registry().find("tests.workapp.tasks.stock_note") is tasks.stock_note

    @pytest.mark.parametrize(
        "path",
        [
            "os.system",
            "builtins.eval",
            "tests.workapp.tasks.not_a_task",
            "tests.workapp.tasks.Doom",
            "tests.workapp.tasks.LEDGER",
            "tests.workapp.tasks.note.func",
            "tests.workapp.tasks.",
            "tests.workapp.tasks",
            "tests.workapp.tasks.note ",
            "Tests.workapp.tasks.note",
            ".note",
            "note",
            "..",
            ".",
            "",
            "__main__.note",
            "\x00",
        ],
    )
    def test_what_is_no_registered_task_is_unknown(self, path):
        with pytest.raises(UnknownTask, match="No task"):
            Registry().find(path)

    def test_a_path_is_never_imported(self, tmp_path, monkeypatch):
        (tmp_path / "not_yet_loaded.py").write_text(TASK)
        monkeypatch.syspath_prepend(tmp_path)

        with pytest.raises(UnknownTask, match="not loaded"):
            Registry().find("not_yet_loaded.send")
        assert "not_yet_loaded" not in sys.modules

    def test_a_blocked_import_is_an_unknown_module(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "blocked", None)

        with pytest.raises(UnknownTask):
            Registry().find("blocked.send")

    def test_lazy_objects_of_a_module_are_left_alone_when_the_task_is_there(self, monkeypatch):
        def refuse():
            raise AssertionError("somebody looked at it")

        module = ModuleType("lazy_module")
        module.first = SimpleLazyObject(refuse)  # type: ignore[attr-defined]
        module.note = tasks.note  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "lazy_module", module)
        monkeypatch.setattr(type(tasks.note), "module_path", "lazy_module.note", raising=False)

        assert Registry().find("lazy_module.note") is tasks.note

    def test_a_task_that_appears_later_is_found_then(self, monkeypatch):
        registry = Registry()
        module = ModuleType("late_module")
        monkeypatch.setitem(sys.modules, "late_module", module)
        with pytest.raises(UnknownTask):
            registry.find("late_module.note")
        monkeypatch.setattr(type(tasks.note), "module_path", "late_module.note", raising=False)
        module.note = tasks.note  # type: ignore[attr-defined]

        assert registry.find("late_module.note") is tasks.note
