"""ConfigFile: reading, watching and rewriting ``config.json``."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asynccam.errors import NotFoundError, StateError, StorageError, UsageError
from asynccam.runtime.event_hub import EventHub
from asynccam.systems.snapshot.server.events import ConfigChanged
from asynccam.systems.snapshot.server.settings import CameraConfig, ConfigFile
from tests.support.cancelling import cancelled_at
from tests.support.waiting import eventually

FRONT = {
    "name": "front",
    "device_path": "/dev/video0",
    "type": "v4l2",
    "width": "1280",
    "height": "720",
    "pixel_format": "MJPG",
    "stereo": False,
    "service_name": "",
    "colour": "red",
}
BACK = {**FRONT, "name": "back", "type": "stream_interrupt", "service_name": "stream.service", "width": 640}


@pytest_asyncio.fixture
async def events() -> AsyncIterator[EventHub]:
    hub = EventHub()
    yield hub
    await hub.aclose()


def write(path: Path, document: Any) -> None:
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def files(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


def names(config: ConfigFile) -> list[str]:
    return [camera.name for camera in config.cameras]


async def test_config_reads_file_of_existing_server(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write(path, {"cameras": [FRONT, BACK]})
    async with ConfigFile(path) as config:
        front, back = config.cameras
        assert (front.name, front.width, front.height, front.interrupts) == ("front", 1280, 720, "")
        assert back.interrupts == "stream.service"
        assert front.entry()["colour"] == "red"
        assert "roll_offset" not in front.entry()
        assert config.problems == ()


async def test_config_keeps_a_bare_list(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write(path, [FRONT])
    async with ConfigFile(path) as config:
        assert names(config) == ["front"]
        await config.add_camera(BACK)
        assert names(config) == ["front", "back"]
    assert [one["name"] for one in json.loads(path.read_text())] == ["front", "back"]


async def test_config_creates_missing_file_with_first_camera(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    async with ConfigFile(path) as config:
        assert config.cameras == ()
        await config.add_camera({"name": "one", "device_path": "/dev/video0"})
    assert json.loads(path.read_text())["cameras"][0]["width"] == 640


async def test_config_writes_default_cameras_with_first_change(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    default = [CameraConfig(name="test", device_path="test:ball")]
    async with ConfigFile(path, default=default) as config:
        assert names(config) == ["test"]
        await config.add_camera(FRONT)
        assert names(config) == ["test", "front"]
    async with ConfigFile(path, default=default) as config:
        assert names(config) == ["test", "front"]


async def test_config_reports_invalid_entry_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    text = """{
  "cameras": [
    {"name": "good", "device_path": "/dev/video0"},
    {"name": "bad", "device_path": "/dev/video1",
     "width": "wide"},
    7,
    {"device_path": "/dev/video2"},
    {"name": "good", "device_path": "/dev/video3"}
  ]
}"""
    write(path, text)
    async with ConfigFile(path) as config:
        assert names(config) == ["good"]
        assert config.camera("good").device_path == "/dev/video0"
        found = [(one.field, one.line, one.column, one.camera) for one in config.problems]
        assert found == [
            ("cameras[1].width", 5, 15, "bad"),
            ("cameras[2]", 6, 5, None),
            ("cameras[3].name", 7, 5, None),
            ("cameras[4].name", 8, 14, "good"),
        ]
        assert str(config.problems[0]).startswith("line 5, column 15: cameras[1].width: ")


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('{"cameras": [\n  {"name": "a",}\n]}', 2, 16),
        ("", 1, 1),
        ('{"cameras": []', 1, 15),
        ('{"cameras":\n NaN}', 2, 2),
        ('"cameras"', 1, 1),
        ('{"cameras": {}}', 1, 1),
        ("[" * 100_000, 1, 1),
        ('{"n": ' + "1" * 5000 + "}", 1, 7),
    ],
)
async def test_config_keeps_last_valid_configuration(
    tmp_path: Path, text: str, line: int, column: int
) -> None:
    path = tmp_path / "config.json"
    write(path, [FRONT])
    async with ConfigFile(path, poll=60) as config:
        write(path, text)
        assert await config.reload()
        assert names(config) == ["front"]
        (problem,) = config.problems
        assert (problem.line, problem.column) == (line, column)
        with pytest.raises(StateError, match="must be fixed first"):
            await config.add_camera(BACK)
        assert path.read_text() == text, "what somebody is writing by hand is left alone"
        write(path, [BACK])
        assert await config.reload()
        assert names(config) == ["back"]
        assert config.problems == ()


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b" " * ((4 << 20) + 1)])
async def test_config_reports_binary_or_huge_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    async with ConfigFile(path) as config:
        assert len(config.problems) == 1
        assert not await config.reload(), "it is looked at once"


async def test_config_accepts_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([FRONT]).encode())
    async with ConfigFile(path) as config:
        assert names(config) == ["front"]


async def test_config_reports_change_by_hand(tmp_path: Path, events: EventHub) -> None:
    path = tmp_path / "config.json"
    async with ConfigFile(path, events=events, poll=0.01) as config:
        with events.stream(ConfigChanged) as told:
            write(path, [FRONT])
            await eventually(lambda: names(config) == ["front"], 20)
            async with asyncio.timeout(20):
                while True:
                    event = await anext(told)
                    if event.cameras == ("front",):
                        break
            path.unlink()
            await eventually(lambda: config.problems, 20)
            assert names(config) == ["front"], "a file that is away for a moment takes no camera along"
            write(path, [BACK])
            await eventually(lambda: names(config) == ["back"], 20)
            assert config.problems == ()


async def test_config_ignores_its_own_writes(tmp_path: Path, events: EventHub) -> None:
    async with ConfigFile(tmp_path / "config.json", events=events, poll=60) as config:
        await config.add_camera(FRONT)
        assert not await config.reload()
        assert events.emitted == 1


async def test_config_keeps_unknown_fields(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    broken = {"name": "broken", "width": -1}
    write(path, {"cameras": [FRONT, broken], "site": {"name": "Zürich"}, "imu": {"topic": "a/b", "x": 1}})
    async with ConfigFile(path) as config:
        await config.add_camera(BACK)
        await config.replace_camera("front", {"width": 800})
        assert config.camera("front").width == 800
    document = json.loads(path.read_text())
    assert document["site"] == {"name": "Zürich"}
    assert document["imu"] == {"topic": "a/b", "x": 1}
    assert document["cameras"][0]["colour"] == "red"
    assert document["cameras"][1] == broken
    assert "Zürich" in path.read_text("utf-8")


async def test_config_adds_changes_and_deletes_cameras(tmp_path: Path) -> None:
    async with ConfigFile(tmp_path / "config.json") as config:
        await config.add_camera(FRONT)
        with pytest.raises(UsageError, match="front"):
            await config.add_camera(FRONT)
        with pytest.raises(UsageError, match="width"):
            await config.add_camera({**BACK, "width": "0"})
        await config.add_camera(CameraConfig.model_validate(BACK))
        with pytest.raises(UsageError, match="another camera"):
            await config.replace_camera("back", {"name": "front"})
        await config.replace_camera("back", {"name": "rear"})
        assert names(config) == ["front", "rear"]
        with pytest.raises(NotFoundError):
            await config.replace_camera("back", {})
        with pytest.raises(NotFoundError):
            await config.delete_camera("back")
        await config.delete_camera("front")
        assert names(config) == ["rear"]
        with pytest.raises(NotFoundError):
            config.camera("front")


async def test_config_deletes_invalid_entry(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write(path, [{"name": "wrong"}, FRONT])
    async with ConfigFile(path) as config:
        assert config.problems
        await config.delete_camera("wrong")
        assert config.problems == ()


async def test_config_keeps_concurrent_changes(tmp_path: Path) -> None:
    async with ConfigFile(tmp_path / "config.json") as config:
        await asyncio.gather(
            *(config.add_camera({"name": f"c{one}", "device_path": "/dev/video0"}) for one in range(20))
        )
        assert sorted(names(config)) == sorted(f"c{one}" for one in range(20))


async def test_config_keeps_permissions_and_link(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    real = tmp_path / "etc" / "real.json"
    write(real, [])
    real.chmod(0o640)
    path = tmp_path / "config.json"
    path.symlink_to(real)
    async with ConfigFile(path) as config:
        await config.add_camera(FRONT)
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert json.loads(real.read_text())[0]["name"] == "front"


async def test_config_file_is_complete_after_cancelled_change(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write(path, [FRONT])
    async with ConfigFile(path, poll=60) as config:
        count = 1
        while True:
            write(path, [FRONT])
            await config.reload()

            async def change() -> None:
                await config.add_camera(BACK)

            cancelled = await cancelled_at(change(), count)
            found = [one["name"] for one in json.loads(path.read_text())]
            assert found in (["front"], ["front", "back"])
            assert files(tmp_path) == ["config.json"]
            if not cancelled:
                break
            await config.reload()
            assert names(config) == found, "what is in force is what is in the file"
            count += 1
        assert count > 3


async def test_config_is_unchanged_after_failed_write(tmp_path: Path) -> None:
    path = tmp_path / "no" / "config.json"
    async with ConfigFile(path) as config:
        with pytest.raises(StorageError):
            await config.add_camera(FRONT)
        assert config.cameras == ()


async def test_config_removes_leftovers_of_killed_server(tmp_path: Path) -> None:
    (tmp_path / ".config.json.abc.part").write_text("{")
    (tmp_path / "other.part").write_text("")
    async with ConfigFile(tmp_path / "config.json"):
        assert files(tmp_path) == ["other.part"]


async def test_config_reads_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    (tmp_path / "token").write_text("s3cret\n")
    write(path, {"token_file": "token"})
    async with ConfigFile(path, poll=60) as config:
        assert await config.token() == "s3cret"
        (tmp_path / "token").write_text("other")
        assert await config.token() == "other"
        write(path, {"token_env": "ASYNCCAM_TEST_TOKEN", "token_file": "token"})
        await config.reload()
        assert await config.token() == "other"
        monkeypatch.setenv("ASYNCCAM_TEST_TOKEN", "from env")
        assert await config.token() == "from env"
        write(path, {"token_file": "missing"})
        await config.reload()
        with pytest.raises(StorageError):
            await config.token()
        (tmp_path / "empty").write_text("\n")
        write(path, {"token_file": "empty"})
        await config.reload()
        with pytest.raises(UsageError, match="no secret"):
            await config.token()
        write(path, {})
        await config.reload()
        assert await config.token() is None


async def test_config_refuses_secrets_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write(path, {"token": "s3cret", "imu": {"password": "pa55", "topic": "x"}})
    async with ConfigFile(path) as config:
        assert [one.field for one in config.problems] == ["imu.password", "token"]
        assert "s3cret" not in repr(config.current) + repr(config.problems)
        assert "pa55" not in repr(config.current) + repr(config.problems)
        assert config.current.imu.topic == "x"


async def test_config_keeps_previous_group_of_invalid_setting(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write(
        path,
        {"retention": {"max_age_days": 3, "max_size_mb": None}, "imu": {"broker": "b"}, "token_env": "T"},
    )
    async with ConfigFile(path, poll=60) as config:
        assert config.current.retention.max_age_days == 3
        write(path, {"retention": {"max_age_days": -1}, "imu": 7, "limits": {"captures": 0}, "token_env": 9})
        await config.reload()
        assert config.current.retention.max_age_days == 3
        assert config.current.imu.broker == "b"
        assert config.current.limits.captures == 4
        assert config.current.token_env == "T"
        fields = [one.field for one in config.problems]
        assert fields == ["retention.max_age_days", "limits.captures", "imu", "token_env"]


def test_config_checks_its_poll_interval(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        ConfigFile(tmp_path / "c", poll=0)
