"""How many actor processes fit."""

import os
from types import SimpleNamespace

import psutil
import pytest

from django_vtasks.topology.capacity import MB, auto_processes, cpus, memory_limit, oom_kills

GB = 1024 * MB
V1_NO_LIMIT = "9223372036854771712\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine whose size the test decides, with an empty file system."""

    def size(*, cpus=64, memory=64 * GB):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cpus)), raising=False)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=memory))

    size()
    return SimpleNamespace(size=size, root=tmp_path)


def write(root, files):
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def processes(machine, queues=1, **environ):
    return auto_processes(queues, root=machine.root, environ=environ)


# From limits to processes ---------------------------------------------------------------------------------------------


def test_with_memory_enough_there_is_an_actor_for_each_cpu(machine):
    machine.size(cpus=8)

    assert processes(machine) == 8


@pytest.mark.parametrize(("queues", "each"), [(1, 8), (2, 4), (3, 2), (8, 1), (50, 1)])
def test_the_actors_of_all_queues_together_fit_but_each_queue_has_one(machine, queues, each):
    machine.size(cpus=8)

    assert processes(machine, queues) == each


def test_no_queue_at_all_is_no_division_by_zero(machine):
    machine.size(cpus=8)

    assert processes(machine, 0) == 8


@pytest.mark.parametrize(("dyno", "fitting"), [("512", 8), ("1024", 18), ("2560", 47), ("64", 1), ("1", 1)])
def test_a_dyno_has_as_many_actors_as_fit_its_memory(machine, dyno, fitting):
    assert processes(machine, DYNO_RAM=dyno) == fitting


def test_a_small_machine_is_not_filled_beyond_its_own_memory(machine):
    machine.size(memory=512 * MB)

    assert processes(machine, DYNO_RAM="14336") == 8


def test_large_actors_are_fewer(machine):
    machine.size(memory=1 * GB)

    assert auto_processes(1, root=machine.root, environ={}, actor_bytes=400 * MB) == 2


def test_without_proc_only_the_cpus_count(machine, monkeypatch):
    def no_proc():
        raise FileNotFoundError("/proc/meminfo")

    machine.size(cpus=3)
    monkeypatch.setattr(psutil, "virtual_memory", no_proc)

    assert processes(machine) == 3


def test_on_the_machine_of_this_test_there_is_an_answer():
    assert auto_processes(1) >= 1
    assert cpus() >= 1


# Memory ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", ["", " ", "plenty", "-512", "0", "512MB", "1.5", "9" * 5000, "²"])
def test_a_dyno_ram_that_is_no_size_is_ignored(machine, garbage):
    assert memory_limit(root=machine.root, environ={"DYNO_RAM": garbage}) is None


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n"},
        {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"},
        {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": ""},
        {"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_NO_LIMIT},
        {"proc/self/cgroup": "nonsense\n\n:\n::\n4:memory\n"},
    ],
)
def test_where_nothing_limits_the_memory_there_is_no_limit(machine, files):
    write(machine.root, files)

    assert memory_limit(root=machine.root, environ={}) is None


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(
            {
                "proc/self/cgroup": "0::/system.slice/worker.service\n",
                "sys/fs/cgroup/system.slice/worker.service/memory.max": "536870912\n",
            },
            id="v2",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/tenant.slice/worker.service\n",
                "sys/fs/cgroup/tenant.slice/worker.service/memory.max": "max\n",
                "sys/fs/cgroup/tenant.slice/memory.max": "536870912\n",
            },
            id="v2, a parent",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n"},
            id="v2, in a container",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../../kubepods/pod1\n", "sys/fs/cgroup/memory.max": "536870912\n"},
            id="v2, in a container that is told the host's path",
        ),
        pytest.param({"sys/fs/cgroup/memory.max": "536870912\n"}, id="v2, without /proc"),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n0::/docker/abc\n",
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "536870912\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_NO_LIMIT,
            },
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n0::/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
            },
            id="v1, in a container that is told the host's path",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/a\n0::/b\n",
                "sys/fs/cgroup/unified/b/memory.max": "536870912\n",
            },
            id="v2 beside v1",
        ),
    ],
)
def test_the_limit_of_the_own_cgroup_is_found(machine, files):
    write(machine.root, files)

    assert memory_limit(root=machine.root, environ={}) == 512 * MB
    assert memory_limit(root=machine.root, environ={"DYNO_RAM": "2560"}) == 512 * MB
    assert memory_limit(root=machine.root, environ={"DYNO_RAM": "256"}) == 256 * MB


def test_the_limits_of_other_cgroups_are_none_of_ours(machine):
    write(
        machine.root,
        {
            "proc/self/cgroup": "0::/ours\n",
            "sys/fs/cgroup/ours/memory.max": "1073741824\n",
            "sys/fs/cgroup/ours/child/memory.max": "1048576\n",
            "sys/fs/cgroup/theirs/memory.max": "1048576\n",
        },
    )

    assert memory_limit(root=machine.root, environ={}) == GB


def test_what_cannot_be_read_is_no_limit(machine):
    write(machine.root, {"proc/self/cgroup": "0::/a\n"})
    (machine.root / "sys/fs/cgroup/a/memory.max").mkdir(parents=True)
    (machine.root / "sys/fs/cgroup/memory.max").write_bytes(b"\xff\xfe")

    assert memory_limit(root=machine.root, environ={}) is None


# CPUs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quota", "whole"), [("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)])
def test_a_cpu_quota_counts_a_begun_cpu_in_full(machine, quota, whole):
    write(machine.root, {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": f"{quota}\n"})

    assert cpus(root=machine.root) == whole


@pytest.mark.parametrize("text", ["max 100000", "", "200000", "200000 0", "-1 100000", "two one", "1 2 3 4 5 6" * 99])
def test_a_cpu_max_that_says_nothing_leaves_the_cpus_there_are(machine, text):
    machine.size(cpus=1)
    write(machine.root, {"sys/fs/cgroup/cpu.max": text})

    assert cpus(root=machine.root) == 1


@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_the_quota_of_a_v1_cgroup_is_found_under_either_name_of_its_mount(machine, name):
    place = f"sys/fs/cgroup/{name}/docker/abc"
    write(
        machine.root,
        {
            "proc/self/cgroup": f"2:cpuset:/docker/abc\n1:{name}:/docker/abc\n",
            f"{place}/cpu.cfs_quota_us": "350000\n",
            f"{place}/cpu.cfs_period_us": "100000\n",
        },
    )

    assert cpus(root=machine.root) == 4


def test_a_v1_quota_of_minus_one_is_none(machine):
    write(
        machine.root,
        {
            "proc/self/cgroup": "1:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )

    assert cpus(root=machine.root) == 64


def test_no_more_cpus_than_the_process_may_run_on(machine):
    machine.size(cpus=2)
    write(machine.root, {"sys/fs/cgroup/cpu.max": "800000 100000\n"})

    assert cpus(root=machine.root) == 2


def test_a_system_without_affinity_has_all_its_cpus(machine, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpus(root=machine.root) == 6

    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpus(root=machine.root) == 1


# What the kernel has killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/memory.events": "low 0\noom 4\noom_kill 3\n"},
        {
            "proc/self/cgroup": "4:memory:/app\n0::/\n",
            "sys/fs/cgroup/memory/app/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        },
    ],
    ids=["v2", "v1"],
)
def test_what_the_kernel_has_killed_for_memory_in_the_own_cgroup_is_known(machine, files):
    write(machine.root, files)

    assert oom_kills(root=machine.root) == 3


def test_where_the_kernel_does_not_tell_nothing_is_known(machine):
    assert oom_kills(root=machine.root) is None
