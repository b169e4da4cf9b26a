import re

from load_tests.bench import contender
from load_tests.report import command, plots
from load_tests.report.summary import Summary, divide
from tests.unit.load_tests.lines import both, line

LINES = [
    *both([31_000, 30_000, 32_000], [3000, 2900, 3100], worker_ms=0.03, yardstick={"lpush/s": 1e6}, server="Valkey 8"),
    line(None, contender="celery", skipped="runs no async def"),
    line(5, contender="rq", missing=2),
    line(None, contender="arq", error="Traceback\nConnectionError: gone"),
    line(None, contender="saq", error=""),
]


def test_the_tables_have_medians_with_their_range_ratios_and_verdicts(tmp_path):
    text = written(tmp_path, "report.md")
    goal = "| valkey | noop | tasks/s | 31,000 (30,000–32,000) | 3,000 (2,900–3,100) | 10.3× | ≥ 10× | met |"
    assert goal in text.splitlines()
    assert "| vtasks | 31,000 (30,000–32,000) | 0.03 (0.03–0.03) | 10.3× | 3 |" in text.splitlines()


def test_what_was_not_measured_is_said_with_the_reason(tmp_path):
    text = written(tmp_path, "report.md")
    assert "| celery | – (runs no async def) |  |  |  |" in text.splitlines()
    assert "| valkey | celery | – | runs no async def | noop |" in text
    assert "| valkey | rq | 1 of 1 | invalid: 2 tasks missing, 0 doubled | noop |" in text
    assert "| valkey | arq | 1 of 1 | failed: ConnectionError: gone | noop |" in text
    assert "| valkey | saq | 1 of 1 | failed:  | noop |" in text


def test_equal_reasons_are_counted_with_the_repetitions_that_have_them(tmp_path):
    lines = [line(5, scenario="storm", repetition=n, doubled=twice) for n, twice in enumerate((0, 58, 58, 31))]
    command.write(divide(lines), tmp_path)
    text = (tmp_path / "report.md").read_text()
    why = "invalid: 0 tasks missing, 58 doubled; invalid: 0 tasks missing, 31 doubled"
    assert f"| valkey | vtasks | 3 of 4 | {why} | storm |" in text.splitlines()
    assert "| vtasks | 5 |  | 1 of 4 |" in text.splitlines()


def test_what_was_cut_short_counts_and_is_listed(tmp_path):
    cut = [line(5, scenario="enqueue", figure="one/s", contender="rq", repetition=n, missing=None) for n in (0, 1)]
    command.write(divide([line(5), *cut]), tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    why = "cut short: counts, though nobody knows whether tasks are missing"
    assert f"| valkey | rq | 2 of 2 | {why} | enqueue |" in lines
    assert "| rq | 5 (5–5) |  | 2 |" in lines


def test_a_task_that_ran_twice_is_told_also_where_those_that_are_missing_are_unknown(tmp_path):
    command.write(divide([line(5, contender="rq", missing=None, doubled=3)]), tmp_path)
    assert "invalid: unknown how many missing, 3 doubled" in (tmp_path / "report.md").read_text()


def test_who_does_not_work_on_a_backend_is_told_of_once_and_in_no_scenarios_table(tmp_path):
    absent = [
        line(None, scenario=name, contender="rq", skipped="does not work on valkey") for name in ("noop", "sleep")
    ]
    command.write(divide([line(5), line(5, scenario="sleep"), *absent]), tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert [text for text in lines if "does not work" in text] == [
        "| valkey | rq | – | does not work on valkey | noop, sleep |"
    ]


def test_each_contender_tells_what_becomes_of_a_task_whose_process_is_killed(tmp_path):
    promise = contender.load("celery").promise
    assert f"| celery | {promise} |" in written(tmp_path, "report.md").splitlines()


def test_who_was_measured_for_a_shorter_time_is_named(tmp_path):
    command.write(
        divide([line(1), line(1, contender="rq", share=0.25), line(1, contender="arq", share=0.25)]), tmp_path
    )
    assert "- Of a size or time of 0.25 of the others': arq, rq" in (tmp_path / "report.md").read_text().splitlines()


def test_servers_and_their_versions_stand_above(tmp_path):
    assert "- Servers: Valkey 8" in written(tmp_path, "report.md").splitlines()


def test_what_was_measured_in_two_settings_is_in_two_tables_that_say_so(tmp_path):
    lines = [*both([10], [1]), *both([30], [1], durable=True, commit="abc"), *both([20], [1], commit="abc")]
    command.write(divide(lines), tmp_path)
    text = (tmp_path / "report.md").read_text()
    for label, figure in (
        ("commit , no waiting for disks", "10"),
        ("commit abc, waiting for the disk", "30"),
        ("commit abc, no waiting for disks", "20"),
    ):
        table = text.split(f"## noop on valkey ({label})")[1].split("##")[0]
        assert f"| vtasks | {figure} | {figure}× | 1 |" in table.splitlines()
    assert len(list(tmp_path.glob("valkey-noop-?.svg"))) == 3


def test_there_is_a_plot_of_each_kind(tmp_path):
    command.write([Summary(LINES)], tmp_path)
    assert (tmp_path / "valkey-noop.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "valkey-noop.svg").read_text()


def test_a_plot_has_all_figures_of_a_scenario_but_not_what_they_cost(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_draw_bars", lambda _axes, name, _spreads: drawn.append(name))
    line_of_two = line(1.5, scenario="latency", figure="p50 ms", worker_ms=0.3)
    line_of_two.figures["p99 ms"] = 2.5
    plots.draw(Summary([line_of_two]), tmp_path)
    assert drawn == ["p50 ms", "p99 ms"]


def test_the_page_needs_no_other_file(tmp_path):
    text = written(tmp_path, "report.html")
    assert text.count("data:image/svg+xml;base64,") == 1
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "31,000 (30,000–32,000)" in text


def test_a_goal_that_is_not_met_is_marked_on_the_page(tmp_path):
    command.write([Summary([line(5, missing=1), line(5, scenario="idle", figure="% CPU")])], tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert '<td class="missed">not met (1 of 1 invalid)</td>' in text
    assert '<td class="missed">not met</td>' in text
    assert "<td>not measured</td>" in text
    assert '<td class="met">met</td>' in written(tmp_path, "report.html")


def test_what_contenders_say_is_no_markup(tmp_path):
    command.write([Summary([*LINES, line(None, contender="huey", error="<b>|")])], tmp_path)
    assert "<b>" not in (tmp_path / "report.html").read_text()
    assert "\\|" in (tmp_path / "report.md").read_text()


def written(directory, name):
    command.write(divide(LINES), directory)
    return (directory / name).read_text()
