"""The reference names each series as it is."""

import re
from pathlib import Path

from django_vtasks.metrics import tally
from django_vtasks.metrics.catalogue import CATALOGUE, COUNTER

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
ROW = re.compile(r"^\| `(vtasks_\w+)` \| (\w+) \|(.*?)\| .+ \|$", re.MULTILINE)


def test_it_has_all_of_them_with_their_type_and_labels_and_no_other():
    rows = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(REFERENCE.read_text())
    }
    ours = {
        f"{family.name}_total" if family.kind == COUNTER else family.name: (family.kind, family.labels)
        for family in CATALOGUE
    }

    assert rows == ours


def test_it_says_how_many_names_there_may_be():
    assert f"{tally.MOST:,} pairs of task and queue" in REFERENCE.read_text().replace("\n", " ")
