"""`python -m benchmarks`: one run, one table, and pages that are made of what was saved."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.__main__ import ALL
from benchmarks._report import Row
from benchmarks._results import LINES, Found, Line, Results, found, markdown, put_between_marks, table
from tests.support.benchmark_runs import PROJECT, needs_compiler, printed

SAVED = PROJECT / "benchmarks" / "results.json"
PAGES = (PROJECT / "README.md", PROJECT / "docs" / "performance.md")


def results(ours: float, rival: float, before: float | None = None) -> Results:
    line = LINES[0]
    rows = (
        Row("client", line.ours, ours, "/s", "vendor's SDK", ours / rival),
        Row("client", line.rival, rival, "/s", "vendor's SDK", 1.0),
    )
    old = () if before is None else (Row("client", line.ours, before * rival, "/s"), rows[1])
    return Results(
        {"date": "2026-01-01", "system": "s", "processors": "2", "python": "3"}, "abc", rows, "def", old
    )


async def test_quick_run_is_saved_and_read(tmp_path: Path) -> None:
    saved = tmp_path / "results.json"
    output, _ = await printed(
        "benchmarks", "--quick", "--only", "imports", "--beside", str(PROJECT), "--save", str(saved)
    )
    *_, table_head, first, second = output.splitlines()
    assert table_head.split() == ["measured", "asynccam", "rival", "ratio", "before", "bar"]
    assert first.split()[:3] == ["!", "`import", "asynccam`"] or first.split()[:2] == ["`import", "asynccam`"]
    assert "`asynccam --version`" in second
    one = Results.load(saved)
    assert {row.benchmark for row in one.rows} == {"imports"}
    assert [row.case for row in one.before] == [row.case for row in one.rows]
    again, _ = await printed("benchmarks", "--read", str(saved))
    assert again == output
    rows, _ = await printed("benchmarks", "--read", str(saved), "--json")
    assert [Row(**json.loads(row)) for row in rows.splitlines()] == list(one.rows)


def test_saved_results_are_read_back(tmp_path: Path) -> None:
    one = results(8, 2, before=1.5)
    one.save(tmp_path / "file")
    assert Results.load(tmp_path / "file") == one


@pytest.mark.parametrize(
    ("ours", "less", "missed", "lost"),
    [(5, False, False, False), (3, False, True, False), (0.5, False, True, True), (1.5, True, False, True)],
)
def test_lines(ours: float, less: bool, missed: bool, lost: bool) -> None:
    line = Line("n", "client", "a", "b", "c", 4.0, less)
    one = Found(line, Row("client", "a", ours, "/s"), Row("client", "b", 1.0, "/s"), None)
    assert (one.is_missed, one.is_lost) == (missed, lost)


def test_table_marks_what_is_missed_and_lost() -> None:
    (line,) = found(results(8, 2, before=1.5))
    assert (line.reached, line.before) == (4, 1.5)
    assert table([line]).splitlines()[1].startswith("  `CameraClient`, calls")
    assert table(found(results(3, 2))).splitlines()[1].startswith("! ")
    page = markdown(results(1, 2, before=1.5))["all"]
    assert page.splitlines()[0] == "| measured | asynccam | rival | ratio | before (def) | bar |"
    assert "| **0.50** | 1.50 | >= 4, missed |" in page


def test_page_without_its_mark_is_refused() -> None:
    page = "a\n<!-- benchmarks: all -->\nold\n<!-- /benchmarks -->\nb"
    assert put_between_marks(page, {"all": "new"}) == (
        "a\n<!-- benchmarks: all -->\n\nnew\n\n<!-- /benchmarks -->\nb"
    )
    with pytest.raises(ValueError, match="no table 'other'"):
        put_between_marks("<!-- benchmarks: other -->\n<!-- /benchmarks -->", {"all": "new"})
    with pytest.raises(ValueError, match="no end of its mark"):
        put_between_marks("<!-- benchmarks: all -->\n", {"all": "new"})


@needs_compiler
def test_every_line_of_the_table_was_measured() -> None:
    measured = {one.line for one in found(Results.load(SAVED))}
    assert [line.name for line in LINES if line not in measured] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_the_saved_table(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- benchmarks: " in text
    assert put_between_marks(text, markdown(Results.load(SAVED))) == text, (
        "run: python -m benchmarks --read benchmarks/results.json --markdown README.md docs/performance.md"
    )


def test_saved_results_name_no_machine() -> None:
    text = SAVED.read_text(encoding="utf-8")
    assert set(Results.load(SAVED).machine) == {"system", "processors", "python", "date"}
    assert not re.findall(r"/(?:home|root|tmp|work)/", text)


def test_every_benchmark_with_a_line_is_run() -> None:
    assert {line.benchmark.split()[0] for line in LINES} <= set(ALL)
