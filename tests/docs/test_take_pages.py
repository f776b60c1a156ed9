"""The programs in docs/take.md and docs/aligning.md run, and their tables are complete."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from asynccam.take import Alignment, TakeState
from tests.support.levels import write_levels
from tests.support.multicam_device import running

PAGE = (Path(__file__).parents[2] / "docs" / "take.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ALIGNING = (Path(__file__).parents[2] / "docs" / "aligning.md").read_text()

Main = Callable[[Sequence[str], Path, float], Awaitable[bool]]


@pytest.mark.parametrize("program", PROGRAMS, ids=["at-once", "step-by-step"])
async def test_program_of_the_page_runs(tmp_path: Path, program: str) -> None:
    names: dict[str, object] = {"__name__": "page"}
    exec(compile(program, "docs/take.md", "exec"), names)
    main: Main = names["main"]  # type: ignore[assignment]
    async with running(tmp_path / "device") as device:
        assert await main([f"multicam://127.0.0.1:{device.port}"], tmp_path / "takes", 0.1)
    (take,) = (tmp_path / "takes").iterdir()
    assert json.loads((take / "manifest.json").read_text())["outcome"] == "complete"
    assert len(list(take.glob("*/*.mp4"))) == 1


def test_page_names_every_state() -> None:
    table = PAGE[PAGE.index("## The steps") : PAGE.index("## Failures")]
    assert not [
        state for state in TakeState if state is not TakeState.NEW and f"`{state.value}`" not in table
    ]


async def test_program_of_the_aligning_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = re.findall(r"```python\n(.*?)```", ALIGNING, re.DOTALL)[0]
    await write_levels(tmp_path / "v.mp4", range(30, 40))
    names: dict[str, Any] = {}
    exec(compile(program, "docs/aligning.md", "exec"), names)
    moment = {"unix": 1.0, "utc": ""}
    seen = {"first_frame_at": moment, "first_frame_bound": 0.01}
    verdict = {"verdict": "complete", "frames": 10, "duration": 1.0}
    file = {"name": "v.mp4", "source": "device", "state": "arrived", "path": "v.mp4", "verdict": verdict}
    camera = {"id": "x://a", "name": "a", "system": "x", "directory": "a", "files": [file], **seen}
    manifest = {"take": "t", "phase": "done", "created_at": moment, "written_at": moment, "cameras": [camera]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    alignment = await names["main"](tmp_path)
    assert await Alignment.load(tmp_path) == alignment
    assert capsys.readouterr().out == "a v.mp4 0.0 0 0.01\n"


def test_every_field_of_an_alignment_is_explained() -> None:
    schema = Alignment.model_json_schema(mode="serialization")
    own = ("Alignment", "Window", "AlignedCamera", "AlignedFile", "CutPoint")
    models = [schema, *(model for name, model in schema["$defs"].items() if name in own)]
    fields = [(name, field) for model in models for name, field in model["properties"].items()]
    told = [(name, field["description"]) for name, field in fields if "description" in field]
    assert len(told) > 20
    assert not [name for name, words in told if f"| `{name}` | {words} |" not in ALIGNING]
