"""What a device answers to each command, in both dialects, however the command arrives."""

import asyncio
import struct
import time
from pathlib import Path

import pytest

from tests.support.cuts import every_cut
from tests.support.multicam_device import BytesRecorder, ask, command, connected, running

STATUS_1 = {"deviceId", "status", "timestamp", "isRecording"}
STATUS_2 = {"deviceId", "status", "timestamp", "deviceType", "uploadQueue", "failedUploadQueue"}


@pytest.mark.parametrize("name", ["DEVICE_STATUS", "HEARTBEAT"])
@pytest.mark.parametrize(("dialect", "fields"), [(1, STATUS_1), (2, STATUS_2)])
async def test_status_fields_of_each_dialect(
    tmp_path: Path, name: str, dialect: int, fields: set[str]
) -> None:
    async with running(tmp_path, dialect=dialect) as device:
        answer = await ask(device, name)
    assert set(answer) == fields
    assert answer["deviceId"] == "bench-1"
    assert answer["status"] == "ready"
    assert abs(answer["timestamp"] - time.time()) < 5


async def test_recording_in_dialect_1(tmp_path: Path) -> None:
    async with running(tmp_path, BytesRecorder(b"x" * 1000), dialect=1) as device:
        started = await ask(device, "START_RECORDING")
        during = await ask(device, "DEVICE_STATUS")
        stopped = await ask(device, "STOP_RECORDING")
        listed = await ask(device, "LIST_FILES")
    assert (started["status"], started["isRecording"]) == ("recording", True)
    assert (during["status"], during["isRecording"]) == ("recording", True)
    assert set(stopped) == {*STATUS_1, "fileId", "fileName", "fileSize"}
    assert stopped["fileName"] == stopped["fileId"] + ".mp4"
    assert (stopped["status"], stopped["isRecording"]) == ("recording_stopped", False)
    device_id, _, milliseconds = stopped["fileId"].rpartition("_")
    assert device_id == "bench-1"
    assert abs(int(milliseconds) / 1000 - time.time()) < 10
    assert stopped["fileSize"] == 1000
    (entry,) = listed["files"]
    assert set(entry) == {"fileId", "fileName", "fileSize", "creationDate", "modificationDate"}
    assert entry["fileId"] == stopped["fileId"]
    assert entry["fileName"] == stopped["fileId"] + ".mp4"
    assert abs(entry["creationDate"] - int(milliseconds) / 1000) < 0.001


async def test_recording_in_dialect_2(tmp_path: Path) -> None:
    async with running(tmp_path, BytesRecorder(b"x" * 1000)) as device:
        started = await ask(device, "START_RECORDING")
        during = await ask(device, "DEVICE_STATUS")
        stopped = await ask(device, "STOP_RECORDING")
        listed = await ask(device, "LIST_FILES")
    assert started["status"] == "recording"
    assert during["status"] == "recording"
    assert set(stopped) == {"deviceId", "status", "timestamp", "fileName", "fileSize"}
    assert (stopped["status"], stopped["fileSize"]) == ("recording_stopped", 1000)
    assert stopped["fileName"].startswith("video_")
    assert abs(int(stopped["fileName"][6:-4]) - time.time()) < 10
    (entry,) = listed["files"]
    assert set(entry) == {"fileName", "fileSize", "creationDate", "modificationDate"}
    assert (entry["fileName"], entry["fileSize"]) == (stopped["fileName"], 1000)
    assert (tmp_path / entry["fileName"]).read_bytes() == b"x" * 1000


async def test_recordings_of_one_second_get_different_names(tmp_path: Path) -> None:
    names = set()
    async with running(tmp_path) as device:
        for _ in range(3):
            await ask(device, "START_RECORDING")
            names.add((await ask(device, "STOP_RECORDING"))["fileName"])
    assert len(names) == 3
    assert {path.name for path in tmp_path.iterdir()} == names


async def test_start_while_recording_has_no_effect(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder) as device:
        first, second = await asyncio.gather(*(ask(device, "START_RECORDING") for _ in range(2)))
        third = await ask(device, "START_RECORDING", timestamp=time.time() + 3)
    assert [answer["status"] for answer in (first, second, third)] == ["recording"] * 3
    assert len(recorder.started) == 1


async def test_stop_without_recording_is_an_error(tmp_path: Path) -> None:
    async with running(tmp_path, dialect=2) as device:
        answer = await ask(device, "STOP_RECORDING")
    assert set(answer) == {"deviceId", "status", "timestamp", "fileName", "fileSize"}
    assert (answer["status"], answer["fileName"]) == ("error", None)
    async with running(tmp_path, dialect=1) as device:
        answer = await ask(device, "STOP_RECORDING")
    assert (answer["status"], answer["message"]) == ("error", "not recording")
    assert set(answer) == {*STATUS_1, "fileName", "message"}
    assert answer["fileName"] is None


async def test_status_is_stopping_until_file_is_finished(tmp_path: Path) -> None:
    recorder = BytesRecorder()
    async with running(tmp_path, recorder) as device, connected(device) as controller:
        await ask(device, "START_RECORDING")
        recorder.may_stop.clear()
        controller.send(command("STOP_RECORDING"))
        while (await ask(device, "HEARTBEAT"))["status"] != "stopping":
            pass
        refused = await ask(device, "START_RECORDING")
        recorder.may_stop.set()
        stopped = await controller.document()
        after = await ask(device, "HEARTBEAT")
    assert refused["status"] == "error"
    assert (stopped["status"], after["status"]) == ("recording_stopped", "ready")


async def test_unfinished_recording_is_hidden(tmp_path: Path) -> None:
    async with running(tmp_path, BytesRecorder()) as device:
        await ask(device, "START_RECORDING")
        (path,) = tmp_path.iterdir()
        listed = await ask(device, "LIST_FILES")
        fetched = await ask(device, "GET_VIDEO", fileName=path.name)
    assert listed["files"] == []
    assert fetched["status"] == "file_not_found"


@pytest.mark.parametrize("name", ["REBOOT", "", "start_recording", "\u202e" * 300])
async def test_unknown_command_keeps_connection(tmp_path: Path, name: str) -> None:
    async with running(tmp_path) as device, connected(device) as controller:
        controller.send(command(name))
        refused = await controller.document()
        controller.send(command("HEARTBEAT"))
        assert (await controller.document())["status"] == "ready"
    assert refused["status"] == "error"
    assert set(refused) == {"deviceId", "status", "timestamp", "message"}


async def test_command_any_cuts(tmp_path: Path) -> None:
    heartbeat = b'{"command":"HEARTBEAT","deviceId":"a}\\"{\xc3\xa9"}'
    async with running(tmp_path) as device, connected(device) as controller:
        for pieces in every_cut(heartbeat):
            for piece in pieces:
                controller.send(piece)
                await asyncio.sleep(0)
            assert (await controller.document())["status"] == "ready"


async def test_joined_commands(tmp_path: Path) -> None:
    async with running(tmp_path) as device, connected(device) as controller:
        controller.send(command("HEARTBEAT") + command("LIST_FILES") + b"\r\n\0 " + command("STOP_RECORDING"))
        answers = [await controller.document() for _ in range(3)]
    assert answers[0]["status"] == "ready"
    assert answers[1]["files"] == []
    assert answers[2]["status"] == "error"


@pytest.mark.parametrize("blank", [b" ", b"\r\n", b"\t \n"])
async def test_leading_blanks_are_ignored(tmp_path: Path, blank: bytes) -> None:
    async with running(tmp_path) as device, connected(device) as controller:
        controller.send(blank + command("HEARTBEAT") + blank)
        assert (await controller.document())["status"] == "ready"


async def test_prefixed_command_gets_prefixed_reply(tmp_path: Path) -> None:
    (tmp_path / "video_1.mp4").write_bytes(b"footage")
    asked = [command("HEARTBEAT"), command("LIST_FILES"), command("GET_VIDEO", fileName="none.mp4")]
    async with running(tmp_path) as device, connected(device) as controller:
        for one in asked:
            controller.send(struct.pack(">I", len(one)) + one)
        assert (await controller.framed())["status"] == "ready"
        assert (await controller.framed())["files"][0]["fileName"] == "video_1.mp4"
        missing = await controller.framed()
        assert missing["status"] == "file_not_found"
        assert "fileSize" not in missing
        video = command("GET_VIDEO", fileName="video_1.mp4")
        controller.send(struct.pack(">I", len(video)) + video)
        assert (await controller.framed())["fileSize"] == 7
        assert await controller.exactly(7) == b"footage"
        controller.send(command("HEARTBEAT"))
        assert (await controller.document())["status"] == "ready"


async def test_half_closed_controller_gets_reply(tmp_path: Path) -> None:
    async with running(tmp_path) as device, connected(device) as controller:
        controller.send(command("HEARTBEAT"))
        controller.writer.write_eof()
        assert (await controller.document())["status"] == "ready"
        assert await controller.rest() == b""


async def test_list_of_thousands_of_files(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"video_{1_700_000_000 + number}.mp4").touch()
    async with running(tmp_path) as device, connected(device) as controller:
        controller.send(command("LIST_FILES"))
        controller.writer.write_eof()
        text = await controller.rest()
    assert len(text) > 200_000
    assert text.count(b'"fileName"') == 3000
