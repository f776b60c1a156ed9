"""ConfigFile: a deleted file, a file that returns, and values that JSON cannot hold."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import UsageError
from asynccam.systems.snapshot.server import json_position
from asynccam.systems.snapshot.server.settings import ConfigFile
from tests.support.waiting import eventually

FRONT = {"name": "front", "device_path": "/dev/video0"}
BACK = {"name": "back", "device_path": "/dev/video1"}


async def test_deleted_file_is_rewritten_completely(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    said = {"site": "roof", "cameras": [FRONT], "retention": {"max_age_days": 3}, "imu": {"broker": "b"}}
    path.write_text(json.dumps(said))
    async with ConfigFile(path, poll=0.01) as config:
        path.unlink()
        await eventually(lambda: config.problems)
        await config.add_camera(BACK)
        written = json.loads(path.read_text())
        assert [one["name"] for one in written.pop("cameras")] == ["front", "back"]
        assert written == {key: said[key] for key in ("site", "retention", "imu")}
        assert config.current.retention.max_age_days == 3
        assert config.problems == ()


async def test_file_that_returns_unchanged_has_no_problem(tmp_path: Path) -> None:
    path, away = tmp_path / "config.json", tmp_path / "away.json"
    path.write_text(json.dumps([FRONT]))
    async with ConfigFile(path, poll=0.01) as config:
        path.rename(away)
        await eventually(lambda: config.problems)
        away.rename(path)
        await eventually(lambda: not config.problems)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "NaN", '"\\ud800"', "[" * 600 + "]" * 600])
async def test_unwritable_json_is_not_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps([FRONT]))
    async with ConfigFile(path, poll=0.01) as config:
        # A device that is none as well, so that its place is looked for.
        path.write_text(f'[{{"name": "a", "device_path": "none", "note": {text}}}]')
        await eventually(lambda: config.problems)
        assert config.problems[0].line == 1
        assert config.cameras[0].name == "front"
        path.write_text(json.dumps([BACK]))
        await eventually(lambda: config.cameras[0].name == "back")


def nested(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("note", [float("inf"), float("nan"), "\ud800", nested(600), {"\udfff": 1}, {1, 2}])
async def test_unreadable_json_is_not_written(note: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    async with ConfigFile(path) as config:
        await config.add_camera(FRONT)
        before = path.read_bytes()
        with pytest.raises(UsageError):
            await config.add_camera({**BACK, "note": note})
        assert (path.read_bytes(), config.problems, len(config.cameras)) == (before, (), 1)
        await config.add_camera({**BACK, "note": nested(40)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_that_was_read_can_be_written(document: object) -> None:
    try:
        value = json_position.parse(json.dumps(document))
    except ValueError:
        return
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    assert json_position.parse(text.encode().decode()) == value
