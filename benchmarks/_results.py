"""The table of results: which rows are compared, with which rival, and what was set out to be reached.

A ratio is asynccam's figure by the rival's. Whether more or less of it is better, the bar says.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from benchmarks._report import Row

_BEGIN: Final = "<!-- benchmarks: "
_END: Final = "<!-- /benchmarks -->"


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        name: What was measured, in words.
        benchmark: The `Row.benchmark` of both cases.
        ours: Our case.
        rival: The rival's case, or "" where only the figure counts.
        called: The rival in words.
        bar: What the ratio, or the figure without a rival, is to reach.
        less: Whether less is better.
        first: Whether the README has it, lost or not.
    """

    name: str
    benchmark: str
    ours: str
    rival: str = ""
    called: str = ""
    bar: float | None = None
    less: bool = False
    first: bool = False


@dataclass(frozen=True)
class Found:
    """A line with its figures.

    Attributes:
        line: Which.
        ours: Our row.
        rival: The rival's row, or None.
        before: Ratio, or figure, of the other commit, or None.
    """

    line: Line
    ours: Row
    rival: Row | None
    before: float | None

    @property
    def reached(self) -> float:
        """The ratio, or without a rival the figure."""
        return _reached(self.ours, self.rival)

    @property
    def is_missed(self) -> bool:
        """Return whether the bar is missed."""
        bar = self.line.bar
        return bar is not None and (self.reached > bar if self.line.less else self.reached < bar)

    @property
    def is_lost(self) -> bool:
        """Return whether the rival does better."""
        return self.rival is not None and (self.reached > 1) == self.line.less and self.reached != 1


@dataclass(frozen=True)
class Results:
    """Results of one run of all benchmarks.

    Attributes:
        machine: The computer, the software and the date.
        commit: What was measured.
        rows: All rows.
        other_commit: The commit that was measured beside it, or "".
        before: Its rows.
    """

    machine: dict[str, str]
    commit: str
    rows: tuple[Row, ...]
    other_commit: str = ""
    before: tuple[Row, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what `save` wrote."""
        fields: dict[str, Any] = json.loads(path.read_text())
        for name in ("rows", "before"):
            fields[name] = tuple(Row(**row) for row in fields[name])
        return cls(**fields)

    def save(self, path: Path) -> None:
        """Write a file with one row a line."""
        fields = asdict(self)
        lists = {name: fields.pop(name) for name in ("rows", "before")}
        parts = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
        for name, rows in lists.items():
            lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
            parts.append(f"  {json.dumps(name)}: [\n{lines}\n  ]" if rows else f"  {json.dumps(name)}: []")
        path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def machine() -> dict[str, str]:
    """Return what figures depend on; nothing of it names this computer or its user."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": str(os.cpu_count()),
        "python": platform.python_version(),
        "date": date.today().isoformat(),
    }


_SDK: Final = "the vendor's SDK"
_CLIENT: Final = ("CameraClient", "vendor's SDK", _SDK)
_HASHING_C: Final = ("C recv + SHA-256 + write", "C that hashes")
_SYNCING_C: Final = ("C recv + SHA-256 + write + fsync", "C that hashes and syncs")
_VENDOR: Final = ("vendor's asyncio, 8 KiB reads under wait_for", "the vendor's controller")


def _client(
    title: str, name: str, bar: float | None, *, less: bool = False, first: bool = False
) -> list[Line]:
    """A line on asyncio's loop, and one on uvloop."""
    return [
        Line(
            f"`CameraClient`, {name}{where}",
            "client",
            f"{title}: CameraClient{loop}",
            f"{title}: vendor's SDK{loop}",
            f"{_SDK}{where}",
            limit,
            less,
            first and not loop,
        )
        for loop, where, limit in (("", "", bar), (", uvloop", ", uvloop", 0.6 if less else bar))
    ]


def _download(
    what: str, ours: str, rival: tuple[str, str], bar: float | None, *, first: bool = False
) -> Line:
    case, called = rival
    words = ours.removeprefix("asynccam, ")
    words = words.replace("download()", "`download()`")
    return Line(
        f"{what}, {words}", "download", f"{what}: {ours}", f"{what}: {case}", called, bar, first=first
    )


_ONE: Final = "one file of 512 MiB"
_TWENTY: Final = "20 files of 64 MiB at once"
_SMALL: Final = "100 files of 1 MiB in turn"
_CALL: Final = "asynccam, download()"

LINES: Final[Sequence[Line]] = (
    *_client("calls, 100 in flight", "calls with 100 in flight", 4, first=True),
    *_client("one call, median", "one call after another, median", 0.8, less=True),
    *_client("typed notifications, 16 cameras", "typed notifications, 16 cameras", 1, first=True),
    *_client("typed notifications, 100 cameras", "typed notifications, 100 cameras", 1),
    *_client("typed notifications, 500 cameras", "typed notifications, 500 cameras", 1),
    *_client("lists of 50 cameras", "lists of 50 cameras", 1.4, first=True),
    *(
        Line(
            f"low-level client, {name}{loop}",
            "rpc",
            f"{case}: asynccam{loop}",
            f"{case}: vendor's SDK{loop}",
            f"{_SDK}{loop}",
            bar,
        )
        for loop in ("", ", uvloop")
        for case, name, bar in (
            ("calls with 100 in flight", "calls with 100 in flight", 4),
            ("notifications to a callback", "notifications as they come", 3.5),
        )
    ),
    _download(_ONE, "asynccam, splice, no digest", ("C recv 256 KiB + write", "C"), 1),
    _download(_ONE, "asynccam, splice, digest", _HASHING_C, 1.1),
    _download(_ONE, _CALL, _SYNCING_C, 1.1, first=True),
    _download(_ONE, _CALL, _VENDOR, None),
    _download(_TWENTY, _CALL, _VENDOR, 4, first=True),
    _download(_TWENTY, "asynccam, download() with BLAKE3", _VENDOR, 4),
    _download(_TWENTY, "asynccam, splice, no digest", ("C recv 256 KiB + write", "C"), None),
    _download(_TWENTY, "asynccam, splice, digest", _HASHING_C, None),
    _download(_TWENTY, _CALL, _SYNCING_C, None),
    Line(
        f"{_TWENTY}, `download()`: longest stall of the loop",
        "download",
        f"20 files, stall of the loop: {_CALL}",
        bar=15,
        less=True,
    ),
    _download(_SMALL, _CALL, _VENDOR, 2),
    _download(_SMALL, _CALL, _SYNCING_C, None),
    Line(
        "one MP4 from a nanocam server, with digest",
        "nanocam",
        "an MP4 of 512 MiB: asynccam, digest",
        "an MP4 of 512 MiB: maker's client, 1024 bytes at a time",
        "the vendor's client",
    ),
    Line(
        "start command at 1,000 devices, armed: first to last",
        "start_skew",
        "1000 devices, first to last write, armed",
        "1000 devices, first to last write, vendor",
        "the vendor's controller",
        less=True,
        first=True,
    ),
    Line(
        "start command at 1,000 devices, armed: first to last",
        "start_skew",
        "1000 devices, first to last write, armed",
        "1000 devices, first to last write, C",
        "C",
        less=True,
    ),
    Line(
        "`start_recording` at 1,000 devices, not armed",
        "takes",
        "1000 starts, not armed: asynccam",
        "1000 starts, not armed: vendor",
        "the vendor's controller",
        0.5,
        less=True,
    ),
    Line(
        "a take over 500 cameras: longest stall of the loop",
        "takes",
        "500 cameras, longest stall of a take",
        bar=20,
        less=True,
        first=True,
    ),
    Line(
        "a take over 500 cameras: longest work of the loop in one turn",
        "takes",
        "500 cameras, longest work of a take",
        bar=20,
        less=True,
    ),
    Line(
        "a take over 500 cameras: processor time to arm one",
        "takes",
        "500 cameras, processor time to arm one",
        bar=1.6,
        less=True,
    ),
    Line(
        "memory of a camera, of 500 in one session", "session", "memory of a camera, 500 of them", less=True
    ),
    Line(
        "500 cameras connected and identified",
        "session",
        "500 cameras found and held",
        "500 devices asked with asyncio alone",
        "a status query with asyncio alone",
        less=True,
    ),
    Line(
        "events to 10 callbacks",
        "session",
        "deliveries to 10 subscribers: asynccam, callbacks",
        "deliveries to 10 subscribers: asyncio.Queue",
        "an `asyncio.Queue` for each",
    ),
    Line(
        "5,000 cameras checked every 10 s: part of a core",
        "idle",
        "5000 cameras, checked every 10 s",
        bar=8,
        less=True,
    ),
    *(
        Line(
            f"camera list of a Snapshot server, requests {words}{loop}",
            "http client",
            f"asynccam, {words}{loop}",
            f"bare aiohttp, {words}{loop}",
            f"bare aiohttp{loop}",
            0.98,
            first=words == "50 at once" and not loop,
        )
        for loop in ("", ", uvloop")
        for words in ("one after the other", "50 at once")
    ),
    *(
        Line(
            f"{what} of a Snapshot server, served {how}",
            "http server",
            f"{case}, {path}, 50 at once",
            f"maker's application, {path}, 50 at once",
            "the vendor's application",
            first=case == "asynccam" and path == "cameras",
        )
        for what, path in (("camera list", "cameras"), ("picture", "a picture of 100 kB"))
        for case, how in (("asynccam", ""), ("asynccam, a connection each", "without keep-alive"))
    ),
    Line(
        "a stream recorded at 720p30: part of a core",
        "recording",
        "CPU at 720p30, asynccam",
        "CPU at 720p30, by hand",
        "`gst-launch-1.0` alone",
        1.03,
        less=True,
        first=True,
    ),
    Line(
        "call to first frame on disk",
        "recording",
        "call to first frame on disk, asynccam",
        "call to first frame on disk, by hand",
        "`gst-launch-1.0` alone",
        less=True,
    ),
    Line(
        "ThorVision's metadata read",
        "metadata",
        "iter_metadata",
        "PyAV, packet by packet",
        "PyAV, packet by packet",
    ),
    Line("`import asynccam`", "imports", "import asynccam", bar=3, less=True),
    Line("`asynccam --version`", "imports", "asynccam --version, whole", bar=120, less=True),
)


def found(results: Results) -> list[Found]:
    """Return the lines whose rows are there."""
    rows, before = _by_case(results.rows), _by_case(results.before)
    lines = []
    for line in LINES:
        ours, rival = _rows_of(line, rows)
        if ours is None or (line.rival and rival is None):
            continue
        old, old_rival = _rows_of(line, before)
        known = old is not None and (old_rival is not None or not line.rival)
        lines.append(
            Found(line, ours, rival, _reached(old, old_rival) if old is not None and known else None)
        )
    return lines


def _by_case(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    return {(row.benchmark, row.case): row for row in rows}


def _rows_of(line: Line, rows: dict[tuple[str, str], Row]) -> tuple[Row | None, Row | None]:
    return rows.get((line.benchmark, line.ours)), rows.get((line.benchmark, line.rival))


def _reached(ours: Row, rival: Row | None) -> float:
    if rival is None:
        return ours.value
    if ours.ratio is not None and ours.ratio_to is not None and rival.case.startswith(ours.ratio_to):
        return ours.ratio  # a median of the ratios of each round, perhaps
    return ours.value / rival.value


# -- telling ---------------------------------------------------------------------------------------


def _cells(one: Found) -> tuple[str, str, str, str, str, str]:
    line = one.line
    rival = "" if one.rival is None else f"{line.called}: {_figure(one.rival)}"
    ratio = "" if one.rival is None else _number(one.reached)
    before = "" if one.before is None else _number(one.before)
    bar = "" if line.bar is None else f"{'<=' if line.less else '>='} {line.bar:g}"
    return line.name.strip(), _figure(one.ours), rival, ratio, before, bar


def table(lines: Sequence[Found]) -> str:
    """Return the table as text; ``!`` stands where a bar is missed, ``-`` where the rival does better."""
    cells = [("measured", "asynccam", "rival", "ratio", "before", "bar"), *map(_cells, lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(6)]
    marks = [" ", *("!" if one.is_missed else "-" if one.is_lost else " " for one in lines)]
    return "\n".join(
        f"{mark} {'  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))}".rstrip()
        for mark, row in zip(marks, cells, strict=True)
    )


def markdown(results: Results) -> dict[str, str]:
    """Return what pages show, by name: ``all`` lines, the ``first`` ones, and the ``machine``.

    With the first ones come all that are lost, but those on uvloop.
    """
    lines = found(results)
    return {
        "all": _page_table(lines, results.other_commit),
        "first": _page_table(
            [one for one in lines if one.line.first or (one.is_lost and "uvloop" not in one.line.ours)], ""
        ),
        "machine": _machine_line(results),
    }


def _page_table(lines: Sequence[Found], other_commit: str) -> str:
    heads = ["measured", "asynccam", "rival", "ratio"]
    if other_commit:
        heads += [f"before ({other_commit})", "bar"]
    rows = [heads, ["---"] * len(heads)]
    for one in lines:
        name, ours, rival, ratio, before, bar = _cells(one)
        shown = f"**{ratio}**" if one.is_lost else ratio
        goal = f"{bar}, missed" if one.is_missed else bar
        rows.append([name, ours, rival, shown, *([before, goal] if other_commit else [])])
    return "\n".join(f"| {' | '.join(row)} |".replace("  ", " ") for row in rows)


def _machine_line(results: Results) -> str:
    one = results.machine
    return (
        f"Measured at commit {results.commit} on {one['date']}, over loopback: {one['system']}, "
        f"{one['processors']} processors, Python {one['python']}."
    )


def put_between_marks(page: str, tables: dict[str, str]) -> str:
    """Put each table between its marks, which are comments: ``benchmarks: NAME`` and ``/benchmarks``."""
    first, *rest = page.split(_BEGIN)
    parts = [first]
    for part in rest:
        name, _, old = part.partition(" -->\n")
        _, end, after = old.partition(_END)
        if not end or name not in tables:
            raise ValueError(f"no table {name!r}, or no end of its mark")
        parts.append(f"{_BEGIN}{name} -->\n\n{tables[name]}\n\n{_END}{after}")
    return "".join(parts)


def _figure(row: Row) -> str:
    unit = {"us": "µs", "%": "%", "% of a core": "% of a core"}.get(row.unit, row.unit)
    value = f"{row.value:,.0f}" if abs(row.value) >= 100 else f"{row.value:.3g}"
    return f"{value}{unit}" if unit.startswith("/") else f"{value} {unit}".strip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"
