"""The examples of docs/nanocam.md run, with hosts, paths and lengths of time for a test."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from asynccam.session import Session  # imported here, because that blocks
from asynccam.systems.nanocam.server.server import MediaServer
from tests.support.gst import free_udp_port

PAGE = (Path(__file__).parents[3] / "docs" / "nanocam.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


async def run(word: str, *replacements: tuple[str, str], **names: Any) -> dict[str, Any]:
    (source,) = [block for block in BLOCKS if word in block]
    for old, new in replacements:
        assert old in source, old
        source = source.replace(old, new)
    assert "192.168" not in source
    assert "/home/" not in source
    code = compile(source, "docs/nanocam.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, names)
    return names


def test_every_example_is_run() -> None:
    assert len(BLOCKS) == 4


async def test_streams(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await run(
        "imgstream",
        ("1920, 1080", "160, 120"),
        ("(3, 5,", "(2, 1,"),
        ("VideoStream(10", "VideoStream(1"),
        ("/home/media", str(tmp_path)),
    )
    assert capsys.readouterr().out == "2 .mp4 complete\n"


async def test_serving() -> None:
    names = await run("server.start()", ("(7200)", '(0, host="127.0.0.1")'))
    assert names["server"].port
    await names["server"].aclose()


async def test_client(tmp_path: Path) -> None:
    async with MediaServer(0, host="127.0.0.1", media_port=free_udp_port()) as server:
        names = await run(
            "mediaclient.MediaClient()",
            ("7200", str(server.port)),
            ("192.168.1.1", "127.0.0.1"),
            ("/home/media", str(tmp_path)),
            ("width=1920, height=1080", "width=160, height=120"),
            ("image_request(3, 5", "image_request(2, 1"),
            ("video_request(10", "video_request(1"),
        )
        assert len(names["files"]) == 1
        assert len(list(tmp_path.iterdir())) == 3


async def test_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with MediaServer(0, host="127.0.0.1") as left, MediaServer(0, host="127.0.0.1") as right:
        await run(
            "session.take",
            ("192.168.1.1", f"127.0.0.1:{left.port}"),
            ("192.168.1.2:7201", f"127.0.0.1:{right.port}"),
            ("duration=10", "duration=1"),
            Path=Path,
            Session=Session,
        )
    assert re.fullmatch(r".+\.jpg True\n", capsys.readouterr().out)
