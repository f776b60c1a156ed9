"""What the pages about MediaMTX say is so."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from asynccam.systems import mediamtx
from asynccam.systems.mediamtx import CameraClient
from asynccam.systems.mediamtx.errors import ERROR_MAPS
from tests.support.mediamtx_service import simulator

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "mediamtx.md").read_text(encoding="utf-8")
PROTOCOL = (DOCS / "protocols/mediamtx.md").read_text(encoding="utf-8")


async def test_first_program_of_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = [
        block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def main" in block
    ]
    monkeypatch.chdir(tmp_path)
    async with simulator(1, directory=tmp_path, clip=b"a recording", http_port=0) as service:
        for there, here in (
            ('"192.168.1.30", 8002', f'"127.0.0.1", {service.port}'),
            ('"JWT"', f'"{service.token("operator")}"'),
            ("http_port=8003", f"http_port={service.http_port}"),
            ("sleep(2)", "sleep(0)"),
            ("asyncio.run(main())", ""),
        ):
            assert there in program
            program = program.replace(there, here)
        names: dict[str, Any] = {}
        exec(compile(program, "docs/mediamtx.md", "exec"), names)
        main: Callable[[], Awaitable[None]] = names["main"]
        await main()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("/dev/video0 CONNECTED rtsp://")
    (home,) = (tmp_path / "recordings").iterdir()
    assert said[-1].split()[:2] == [f"recordings/{home.name}", "11"]


@pytest.mark.parametrize("generation", [1, 2])
def test_docs_table_has_every_error_code(generation: int) -> None:
    table = PROTOCOL[PROTOCOL.index("## Errors") : PROTOCOL.index("## Files")]
    column = generation + 1
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| -")]
    told = {int(code) for row in rows if row[column].strip() for code in re.findall(r"-\d+", row[1])}
    assert told == set(ERROR_MAPS[generation])


def test_docs_explain_every_exception_and_event() -> None:
    names = [name for name in dir(mediamtx) if name.endswith(("Error", "Update", "Notice", "Changed"))]
    assert len(names) == 14
    assert not [name for name in names if f"`{name}`" not in PAGE]


def test_client_has_every_remote_method() -> None:
    section = PROTOCOL[PROTOCOL.index("## Methods") : PROTOCOL.index("Roles are")]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+|ping)(?: \{[^`]*)?`", section))
    methods = {name for name in named if name.startswith(_VERBS)}
    assert len(methods) > 30
    assert not [name for name in methods if not hasattr(CameraClient, name)]


_VERBS = (
    "ping",
    "get_",
    "take_",
    "start_rec",
    "start_str",
    "stop_",
    "list_",
    "delete_",
    "set_",
    "cleanup_",
    "subscribe",
    "unsubscribe",
    "discover",
    "add_",
    "remove_",
)
