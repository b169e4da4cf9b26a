import re

from load_tests.report import command
from load_tests.report.summary import Summary
from tests.unit.load_tests.lines import both, line

LINES = [
    *both([31_000, 30_000, 32_000], [3000, 2900, 3100], commit="abc", worker_ms=0.03, yardstick={"lpush/s": 1e6}),
    line(None, contender="celery", skipped="runs no async def"),
    line(5, contender="rq", missing=2),
    line(None, contender="arq", error="Traceback\nConnectionError: gone"),
]


def test_the_tables_have_medians_with_their_range_ratios_and_verdicts(tmp_path):
    text = written(tmp_path, "report.md")
    goal = "| valkey | noop | tasks/s | 31,000 (30,000–32,000) | 3,000 (2,900–3,100) | 10.3× | ≥ 10× | met |"
    assert goal in text.splitlines()
    assert "| vtasks | 31,000 (30,000–32,000) | 0.03 (0.03–0.03) | 10.3× |" in text.splitlines()


def test_what_was_not_measured_is_said_with_the_reason(tmp_path):
    text = written(tmp_path, "report.md")
    assert "| valkey | noop | celery | runs no async def |" in text
    assert "| valkey | noop | rq | invalid: 2 tasks missing, 0 doubled |" in text
    assert "| valkey | noop | arq | failed: ConnectionError: gone |" in text


def test_there_is_a_plot_of_each_kind(tmp_path):
    command.write(Summary(LINES), tmp_path)
    assert (tmp_path / "valkey-noop.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "valkey-noop.svg").read_text()


def test_the_page_needs_no_other_file(tmp_path):
    text = written(tmp_path, "report.html")
    assert text.count("data:image/svg+xml;base64,") == 1
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "31,000 (30,000–32,000)" in text


def test_what_contenders_say_is_no_markup(tmp_path):
    command.write(Summary([*LINES, line(None, contender="huey", error="<b>|")]), tmp_path)
    assert "<b>" not in (tmp_path / "report.html").read_text()
    assert "\\|" in (tmp_path / "report.md").read_text()


def written(directory, name):
    command.write(Summary(LINES), directory)
    return (directory / name).read_text()
