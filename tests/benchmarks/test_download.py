"""The download benchmark runs, compares every case with both rivals, and checks what arrived."""

import asyncio
import json
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "download.py"
KEYS = frozenset({"benchmark", "case", "value", "unit", "ratio_to", "ratio"})


async def run(*options: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), *options, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_every_row_is_an_object_of_six_keys(tmp_path: Path) -> None:
    rows = [
        json.loads(line)
        for line in (await run("--quick", "--json", "--directory", str(tmp_path))).splitlines()
    ]
    assert {frozenset(row) for row in rows} == {KEYS}
    assert {row["benchmark"] for row in rows} == {"download"}
    assert {row["unit"] for row in rows} == {"MB/s", "ms", "MiB"}
    speeds = {row["case"]: row["value"] for row in rows if row["unit"] == "MB/s"}
    for row in rows:
        if row["ratio_to"] is not None:
            rival = row["case"].partition(":")[0] + ": " + row["ratio_to"]
            assert abs(row["ratio"] - row["value"] / speeds[rival]) < 1e-9
    rivals = {row["ratio_to"] for row in rows if row["ratio_to"]}
    assert any("vendor" in rival for rival in rivals)
    assert any(rival.startswith("C ") for rival in rivals)
    assert list(tmp_path.iterdir()) == [], "nothing is left in the directory"
