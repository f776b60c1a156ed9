"""`benchmarks.modules` counts what a reader follows, on real servers."""

import asyncio
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


async def test_main_prints_a_count_for_each_operation() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.modules", "--list"), cwd=PROJECT, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(50):
        output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    counts = re.findall(r"^ *(\d+) modules: ", text, re.MULTILINE)
    assert len(counts) == 4
    for name in (
        "take/take.py",
        "net/transfer/partfile.py",
        "net/jsonrpc.py",
        "systems/snapshot/server/store.py",
    ):
        assert f"           {name}\n" in text
