"""docs/snapshot-server.md: routes, metrics, limits and its program."""

import asyncio
import os
import re
import sys
from pathlib import Path

from asynccam.systems.snapshot.server import api_v1, app, middleware
from asynccam.systems.snapshot.server.api_v1 import ApiV1, EventFeed
from tests.systems.snapshot.web.rig import serving

PROJECT = Path(__file__).parents[4]
TEXT = (PROJECT / "docs" / "snapshot-server.md").read_text()


async def test_docs_name_every_route(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        operations = ApiV1(rig.service, EventFeed(rig.service)).operations()
    there = {
        (one.method, one.path.replace("{name}", "NAME").replace("{filename}", "FILE")) for one in operations
    }
    section = TEXT.partition("## The API `/api/v1/`")[2].partition("\n## ")[0]
    told = set()
    for row in re.findall(r"^\| (`[A-Z].*?) \|", section, re.MULTILINE):
        *methods, last = re.findall(r"`([^`]+)`", row)
        method, _, path = last.partition(" ")
        told |= {(one, path) for one in (*methods, method)}
    assert told - {("GET", "/metrics")} == there


async def test_docs_name_every_metric(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        names = {one.name.removeprefix("asynccam_snapshot_") for one in rig.web.metrics.registry.collect()}
    section = TEXT.partition("## Metrics")[2].partition("\n## ")[0]
    told = {one.removesuffix("_total") for one in re.findall(r"`([a-z_]+)`", section)}
    assert told - {"asynccam_snapshot_"} == names


def test_docs_numbers_are_true() -> None:
    words = " ".join(TEXT.split())
    assert f"{app.MAX_CONNECTIONS:,} connections" in words
    assert f"{app.MAX_REQUESTS:,} requests" in words
    assert f"within {middleware.IDLE_TIMEOUT:.0f} s" in words
    assert f"Bodies up to {middleware.MAX_BODY // 1024} KiB" in words
    assert f"At least {middleware.MIN_TOKEN} characters" in words
    assert f"cookie for {middleware.COOKIE_SECONDS // 86400} days" in words
    assert f"every {api_v1.HEARTBEAT:.0f} s shows" in words


async def test_docs_program_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT.partition("## In a program")[2], re.DOTALL)
    (tmp_path / "program.py").write_text(
        code.replace("port=8088", "port=0").replace("web.url", "web.url, flush=True")
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "program.py",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert re.match(rb"http://127\.0\.0\.1:\d+\n", line)
    finally:
        process.kill()
        await process.communicate()
