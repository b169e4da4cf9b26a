"""Where control groups can be made, by what a system has mounted."""

import pytest

from load_tests.chaos import cgroups

PLACES = {
    "version 1": ({"memory/cgroup.procs": "", "pids/cgroup.procs": ""}, ("memory", "pids")),
    "version 2": ({"cgroup.procs": "", "cgroup.controllers": "cpu memory pids\n"}, (".", ".")),
    "both, memory in version 2": (
        {
            "pids/cgroup.procs": "",
            "unified/cgroup.procs": "",
            "unified/cgroup.controllers": "memory\n",
        },
        ("unified", "pids"),
    ),
    "version 2 without controllers": ({"cgroup.procs": "", "cgroup.controllers": "\n"}, (None, None)),
    "none": ({}, (None, None)),
}


@pytest.mark.parametrize(("files", "found"), PLACES.values(), ids=PLACES)
def test_groups_are_made_where_the_system_has_them(files, found, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    places = [cgroups.hierarchy(controller, tmp_path) for controller in ("memory", "pids")]

    assert [place and place.root for place in places] == [where and tmp_path / where for where in found]
    for place in places:
        if place is not None:
            assert place.is_unified == (place.root.name not in {"memory", "pids"})
            assert (place.limit == "memory.limit_in_bytes") == (place.root.name == "memory")
