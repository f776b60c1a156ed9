"""The programs in docs/take.md do what the page says."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from asynccam.take import TakeState
from tests.support.multicam_device import running

PAGE = (Path(__file__).parents[1] / "docs" / "take.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

Main = Callable[[Sequence[str], Path, float], Awaitable[bool]]


@pytest.mark.parametrize("program", PROGRAMS, ids=["at-once", "step-by-step"])
async def test_a_program_of_the_page(tmp_path: Path, program: str) -> None:
    names: dict[str, object] = {"__name__": "page"}
    exec(compile(program, "docs/take.md", "exec"), names)
    main: Main = names["main"]  # type: ignore[assignment]
    async with running(tmp_path / "device") as device:
        assert await main([f"multicam://127.0.0.1:{device.port}"], tmp_path / "takes", 0.1)
    (take,) = (tmp_path / "takes").iterdir()
    assert json.loads((take / "manifest.json").read_text())["outcome"] == "complete"
    assert len(list(take.glob("*/*.mp4"))) == 1


def test_the_page_names_every_state() -> None:
    table = PAGE[PAGE.index("## The steps") : PAGE.index("## When something goes wrong")]
    assert not [
        state for state in TakeState if state is not TakeState.NEW and f"`{state.value}`" not in table
    ]
