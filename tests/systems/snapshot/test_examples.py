"""The vendor's example as a program, unchanged but for import, ``await`` and address."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.snapshot_field_server import FieldServer, in_the_field, says

PAGE = (Path(__file__).parent / "client_examples.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def adapted(url: str) -> str:
    source: str = EXAMPLE
    for there, here in (
        ("from snapshot_client import", "from asynccam.systems.snapshot import"),
        ("http://your_server_ip:88", url),
        ("client.get_cameras()", "await client.get_cameras()"),
        ("client.snapshot_camera(", "await client.snapshot_camera("),
    ):
        assert source.count(there) == 1
        source = source.replace(there, here)
    lines = "".join(f"    {line}\n" for line in source.splitlines())
    return f"import asyncio\n\nasync def main():\n{lines}\nasyncio.run(main())\n"


async def output_of(source: str, directory: Path) -> str:
    """Return the output of a program, which must succeed without a warning."""
    program = directory / "example.py"
    program.write_text(source, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        str(program),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await asyncio.wait_for(process.communicate(), 50)
    assert complaints.decode() == ""
    assert process.returncode == 0
    return output.decode()


async def test_example_takes_a_picture(tmp_path: Path) -> None:
    async with in_the_field() as field:
        output = await output_of(adapted(field.url), tmp_path)
        (name,) = field.snapshots
        assert output.splitlines() == [
            "Available cameras: ['left', 'right']",
            f"Snapshot taken: {name}",
            f"Image URL: {field.url}/snapshots/{name}",
        ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says({"success": False, "error": "lens cap"}), "Error: lens cap"),
        (says({"success": False, "error": "busy"}, "500 INTERNAL SERVER ERROR"), "Client Error: .*busy"),
    ],
)
async def test_example_reports_a_failed_picture(tmp_path: Path, answer: bytes, words: str) -> None:
    async with in_the_field(FieldServer(raw={"POST /api/snapshot/left": answer})) as field:
        output = await output_of(adapted(field.url), tmp_path)
    assert re.fullmatch(words, output.splitlines()[1])


async def test_example_reports_a_missing_server(tmp_path: Path) -> None:
    async with in_the_field() as field:
        url = field.url
    assert "Client Error: cannot reach" in await output_of(adapted(url), tmp_path)
