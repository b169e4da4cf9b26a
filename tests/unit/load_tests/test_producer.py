import os
import sys
from pathlib import Path

import pytest

from load_tests.bench.producer import Producer, ProducerError

SILENT = "import sys\nfor line in sys.stdin: print('still here', file=sys.stderr, flush=True)"


def test_a_producer_that_does_not_answer_is_killed_and_its_last_words_are_told(tmp_path):
    with producer(tmp_path, SILENT, patience=1.0) as silent:
        with pytest.raises(ProducerError, match=r"No answer to fill within 1.1 s.\nstill here"):
            silent.ask("fill", seconds=0.1)
        with pytest.raises(ProducerError):
            silent.ask("fill")


def test_a_producer_that_ends_early_is_not_said_to_be_silent(tmp_path):
    with producer(tmp_path, "raise SystemExit('no such queue')") as ended, pytest.raises(ProducerError) as caught:
        ended.ask("prepare")
    assert str(caught.value) == "no such queue"


def producer(directory, script, **options):
    (directory / "produce.py").write_text(script)
    return Producer(Path(sys.executable), os.environ | {"PYTHONPATH": str(directory)}, directory, **options)
