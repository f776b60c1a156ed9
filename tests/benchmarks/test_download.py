"""The download benchmark runs, compares every case with all rivals, and checks what arrived."""

from pathlib import Path

from benchmarks.download import C_HASHING, C_SYNCING, SEVERAL, SINGLE, SMALL, VENDOR, C
from tests.support.benchmark_runs import needs_compiler, quick_rows

WHAT = {
    "one file of 8 MiB": SINGLE,
    "20 files of 1 MiB at once": SEVERAL,
    "5 files of 1 MiB in turn": SMALL,
}


async def speeds(directory: Path, *, compiler: bool) -> dict[str, float]:
    rows = await quick_rows("download", "--directory", str(directory), compiler=compiler)
    assert list(directory.iterdir()) == [], "nothing is left in the directory"
    assert {row["benchmark"] for row in rows.values()} == {"download"}
    assert {row["unit"] for row in rows.values()} == {"MB/s", "ms", "MiB"}
    found = {case: row["value"] for case, row in rows.items() if row["unit"] == "MB/s"}
    for case, row in rows.items():
        if row["ratio_to"] is not None:
            rival = case.partition(":")[0] + ": " + row["ratio_to"]
            assert abs(row["ratio"] - row["value"] / found[rival]) < 1e-9
    return found


@needs_compiler
async def test_quick_run(tmp_path: Path) -> None:
    found = await speeds(tmp_path, compiler=True)
    for what, cases in WHAT.items():
        for case in (*cases, C, C_HASHING, C_SYNCING, VENDOR):
            assert found[f"{what}: {case}"] > 0


async def test_quick_run_without_compiler(tmp_path: Path) -> None:
    found = await speeds(tmp_path, compiler=False)
    assert {case.partition(": ")[2] for case in found} == {*SINGLE, VENDOR}
