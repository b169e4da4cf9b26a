import pytest

from load_tests.bench import kept
from load_tests.bench.results import BadLineError, Line, read
from load_tests.lines import append
from load_tests.report.summary import Key, Spread, Summary
from tests.unit.load_tests.lines import both, line

KEY = Key("valkey", "noop", "tasks/s")


def test_a_line_is_read_as_it_was_written_in_a_directory_that_was_not_there(tmp_path):
    path = tmp_path / "deep" / "results.jsonl"
    written = [line(30_000.5, seed=7, versions={"django": "6.0"}), line(None, skipped="has no batches")]
    for each in written:
        append(path, each.to_json())
    assert read([path]) == written


def test_a_line_of_another_version_is_read_without_what_is_unknown():
    values = {"scenario": "noop", "contender": "rq", "backend": "valkey", "colour": 3}
    assert Line.from_values(values).contender == "rq"


@pytest.mark.parametrize("text", ["what?", "[1]", '{"scenario": "noop"}', '{"common": 3}\n{}'])
def test_a_file_of_something_else_is_told_by_its_line(tmp_path, text):
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(BadLineError, match=r"results.jsonl, line [12], is no result"):
        read([path])


def test_lines_that_are_kept_are_read_as_they_were_with_what_they_share_written_once(tmp_path):
    path = tmp_path / "deep" / "kept.jsonl"
    lines = both([1.0, 2.5], [3.0, 4.0], versions={"django": "6.0"}, machine={"cores": 2}, commit="abc")
    kept.write(path, lines)
    assert read([path]) == lines
    assert path.read_text().count("abc") == 2  # for each contender


def test_of_an_error_the_last_line_is_kept(tmp_path):
    path = tmp_path / "kept.jsonl"
    error = '  File "/home/me/checkout/module.py", line 1\nConnectionError: gone'
    kept.write(path, [line(None, error=error), line(None, error="")])
    assert [each.error for each in read([path])] == ["ConnectionError: gone", ""]


def test_a_ratio_is_that_of_the_same_repetition_of_the_same_run():
    summary = Summary([*both([100, 300, 200], [10, 10, 40]), *both([80], [1], run="another")])
    ratio = summary.ratio(KEY, "vtasks")
    assert ratio == Spread((10.0, 30.0, 5.0, 80.0))
    assert ratio.median == 20.0


def test_what_lost_or_doubled_a_task_does_not_count():
    summary = Summary([line(10), line(99, repetition=1, missing=1), line(99, repetition=2, doubled=3)])
    assert summary.spread(KEY, "vtasks") == Spread((10,))
    assert len(summary.unmeasured()) == 2


def test_what_was_cut_short_counts_and_is_kept_as_that(tmp_path):
    path = tmp_path / "kept.jsonl"
    kept.write(path, [line(10, missing=None), line(10, doubled=None, missing=None, repetition=1)])
    cut, whole = read([path])
    assert (cut.is_cut_short, whole.is_cut_short) == (True, False)
    summary = Summary([cut, whole])
    assert summary.spread(KEY, "vtasks") == Spread((10, 10))
    assert summary.unmeasured() == [cut]


def test_a_repetition_that_only_one_has_makes_no_ratio():
    assert Summary(both([1, 2], [])).ratio(KEY, "vtasks") is None


def test_what_never_came_is_the_worst_of_a_spread():
    assert Spread((3.0, None, 5.0)).median == 5.0
    assert Spread((None, None, 5.0)).median is None
    assert (Spread((3.0, None)).low, Spread((3.0, None)).high) == (3.0, None)
