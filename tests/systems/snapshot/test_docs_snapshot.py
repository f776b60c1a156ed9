"""Examples of docs/snapshot.md, against a simulated existing server."""

import ast
import re
from collections.abc import AsyncIterator
from pathlib import Path

import piexif
import piexif.helper
import pytest

from asynccam.systems.snapshot import SnapshotClient, errors
from tests.support.snapshot_field_server import FieldServer, in_the_field, jpeg

PAGE = (Path(__file__).parents[3] / "docs" / "snapshot.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
async def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FieldServer]:
    monkeypatch.chdir(tmp_path)
    async with in_the_field() as server:
        yield server


async def run(word: str, field: FieldServer, *replacements: tuple[str, str]) -> None:
    (source,) = [block for block in BLOCKS if word in block]
    for old, new in (*replacements, ("192.168.1.20:88", f"127.0.0.1:{field.port}")):
        source = source.replace(old, new)
    code = compile(source, "docs/snapshot.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, {})


def test_docs_examples_all_run() -> None:
    assert len(BLOCKS) == 3


async def test_docs_picture(field: FieldServer, capsys: pytest.CaptureFixture[str]) -> None:
    await run("client.snapshot(", field)
    left, right = capsys.readouterr().out.splitlines()
    assert re.match(r"left snapshot_left_\d{8}_\d{12}\.jpg \d+ [0-9a-f]{64}", left)
    assert right.startswith("right snapshot_right_")
    field.cameras = []
    field.raw["GET /api/cameras"] = b"HTTP/1.1 500 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    await run("client.snapshot(", field)
    assert re.match(r"Client Error: .* 500$", capsys.readouterr().out)


async def test_docs_take(field: FieldServer, capsys: pytest.CaptureFixture[str]) -> None:
    await run("session.take", field, ("duration=5", "duration=0.01, start_in=0.01"))
    assert [line.split(" ")[:3] for line in capsys.readouterr().out.splitlines()] == [
        ["left", "still", "complete"],
        ["right", "still", "complete"],
    ]


async def test_docs_reading(field: FieldServer, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("pictures/snapshot_left_20260131_142530000000.jpg")
    path.parent.mkdir()
    path.write_bytes(jpeg())
    told = '{"roll": 1.0, "pitch": 2.0, "yaw": 3.0, "timestamp": 4.0}'
    comment = piexif.helper.UserComment.dump(told, encoding="unicode")
    piexif.insert(piexif.dump({"Exif": {piexif.ExifIFD.UserComment: comment}}), str(path))
    await run("read_imu", field)
    assert capsys.readouterr().out == "1.0 2.0 3.0 4.0\n"


def test_docs_name_every_call_and_error() -> None:
    calls = [
        name
        for name in vars(SnapshotClient)
        if not name.startswith("_") and name not in ("address", "aclose")
    ]
    assert [name for name in calls if f"`{name}(" not in PAGE] == []
    kinds = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.SnapshotClientError)
    ]
    assert [name for name in kinds if f"`{name}`" not in PAGE] == []
