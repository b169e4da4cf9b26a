from load_tests.bench.results import Line, append, read
from load_tests.report.summary import Key, Spread, Summary
from tests.unit.load_tests.lines import both, line

KEY = Key("valkey", "noop", "tasks/s")


def test_a_line_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "results.jsonl"
    written = [line(30_000.5, seed=7, versions={"django": "6.0"}), line(None, skipped="has no batches")]
    for each in written:
        append(path, each)
    assert read([path]) == written


def test_a_line_of_another_version_is_read_without_what_is_unknown():
    assert Line.from_json('{"scenario": "noop", "contender": "rq", "backend": "valkey", "colour": 3}').contender == "rq"


def test_a_ratio_is_that_of_the_same_repetition_of_the_same_run():
    summary = Summary([*both([100, 300, 200], [10, 10, 40]), *both([80], [1], run="another")])
    ratio = summary.ratio(KEY, "vtasks")
    assert ratio == Spread((10.0, 30.0, 5.0, 80.0))
    assert ratio.median == 20.0


def test_what_lost_or_doubled_a_task_does_not_count():
    summary = Summary([line(10), line(99, repetition=1, missing=1), line(99, repetition=2, doubled=3)])
    assert summary.spread(KEY, "vtasks") == Spread((10,))
    assert len(summary.unmeasured()) == 2


def test_a_repetition_that_only_one_has_makes_no_ratio():
    assert Summary(both([1, 2], [])).ratio(KEY, "vtasks") is None


def test_what_never_came_is_the_worst_of_a_spread():
    assert Spread((3.0, None, 5.0)).median == 5.0
    assert Spread((None, None, 5.0)).median is None
    assert (Spread((3.0, None)).low, Spread((3.0, None)).high) == (3.0, None)
