"""The download benchmark runs, compares every case with all rivals, and checks what arrived."""

import os
from pathlib import Path

import pytest

from benchmarks import download
from benchmarks.download import C_HASHING, C_SYNCING, DOWNLOAD, SEVERAL, SINGLE, SMALL, VENDOR, C, native
from tests.support.benchmark_runs import needs_compiler, quick_rows

WHAT = {
    "one file of 8 MiB": SINGLE,
    "20 files of 1 MiB at once": SEVERAL,
    "5 files of 1 MiB in turn": SMALL,
}


async def speeds(directory: Path) -> dict[str, float]:
    rows = await quick_rows("download", "--directory", str(directory))
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
    found = await speeds(tmp_path)
    for what, cases in WHAT.items():
        for case in (*cases, f"{DOWNLOAD}, uvloop", C, C_HASHING, C_SYNCING, VENDOR):
            assert found[f"{what}: {case}"] > 0


def test_without_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert native(tmp_path) == {}
    assert capsys.readouterr().err == "no C compiler (cc, gcc, clang): the C rows are left out\n"


@needs_compiler
def test_without_openssl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(download, "LIBCRYPTO", None)
    assert set(native(tmp_path)) == {C}
    assert "the C rows with a digest are left out" in capsys.readouterr().err
