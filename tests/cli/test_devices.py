"""The commands that talk to one device, against a device of this process, as processes of their own."""

import asyncio
import json
import os
import pty
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from asynccam.model.digest import DigestName
from asynccam.systems.multicam.device.device import MultiCamDevice
from tests.support.command import COMMAND, asynccam, started
from tests.support.digests import digest_of
from tests.support.multicam_device import running

FOOTAGE = b"moving pictures" * 1000


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    place = tmp_path / "device"
    place.mkdir()
    (place / "video_1.mp4").write_bytes(FOOTAGE)
    return place


@pytest_asyncio.fixture
async def device(recordings: Path) -> AsyncIterator[MultiCamDevice]:
    async with running(recordings) as device:
        yield device


def uri(device: MultiCamDevice) -> str:
    return f"multicam://127.0.0.1:{device.port}"


async def test_status_as_json(device: MultiCamDevice) -> None:
    ended = await asynccam("status", uri(device), "--json")
    assert (ended.code, ended.err) == (0, "")
    said = ended.json()
    assert said["camera"]["id"] == "multicam://bench-1"
    assert said["camera"]["address"] == uri(device)
    assert said["status"]["state"] == "ready"
    assert said["features"] == ["device_clock", "files", "record", "scheduled_start"]


async def test_status_in_a_pipe_has_no_colour(device: MultiCamDevice) -> None:
    ended = await asynccam("status", uri(device))
    assert (ended.code, ended.err) == (0, "")
    assert "bench-1" in ended.out
    assert "ready" in ended.out
    assert "\x1b" not in ended.out


async def test_status_unreachable_exits_3() -> None:
    ended = await asynccam("status", "multicam://127.0.0.1:1", "--json")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("asynccam: status: ")
    assert "127.0.0.1:1" in ended.err
    assert ended.err.count("\n") == 1


async def test_verbose_prints_traceback() -> None:
    ended = await asynccam("status", "multicam://127.0.0.1:1", "--verbose")
    assert ended.code == 3
    assert "Traceback" in ended.err
    assert ended.err.splitlines()[-1].startswith("asynccam: status: ")


async def test_status_of_another_device_exits_4(device: MultiCamDevice) -> None:
    ended = await asynccam("status", f"{uri(device)}/bench-2")
    assert ended.code == 4
    assert "bench-2" in ended.err


async def test_files_as_json(device: MultiCamDevice) -> None:
    ended = await asynccam("files", uri(device), "--json")
    (file,) = ended.json()["files"]
    assert (file["name"], file["size"], file["path"]) == ("video_1.mp4", len(FOOTAGE), None)


async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A device whose words are meant for the terminal and for Rich."""
    asked = json.loads(await reader.read(4096))["command"]
    answer: dict[str, object] = {"deviceId": "[bold]a", "status": "ready", "timestamp": 1.0}
    if asked == "LIST_FILES":
        answer["files"] = [{"fileName": "\x1b[31m[/bold].mp4", "fileSize": 15_000, "creationDate": 1.0}]
    writer.write(json.dumps(answer).encode())
    await writer.drain()
    await reader.read()
    writer.close()


async def test_device_text_is_escaped() -> None:
    server = await asyncio.start_server(hostile, "127.0.0.1", 0)
    async with server:
        place = f"multicam://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        shown, listed, sheet = await asyncio.gather(
            asynccam("files", place), asynccam("files", place, "--json"), asynccam("status", place)
        )
    assert "\\x1b[31m[/bold].mp4" in shown.out
    assert "15.0 kB" in shown.out
    assert listed.json()["files"][0]["name"] == "\x1b[31m[/bold].mp4"
    assert "[bold]a" in sheet.out
    assert "\x1b" not in shown.out + listed.out + sheet.out


async def test_download_never_overwrites(device: MultiCamDevice, tmp_path: Path) -> None:
    line = ("download", uri(device), "video_1.mp4", "--to", tmp_path / "home", "--json")
    first = await asynccam(*line)
    assert (first.code, first.err) == (0, "")
    second = await asynccam(*line)
    places = [Path(one.json()["file"]["path"]) for one in (first, second)]
    assert places[0] != places[1]
    for place in places:
        assert place.parent == tmp_path / "home"
        assert place.read_bytes() == FOOTAGE
    assert len(first.json()["file"]["sha256"]) == 64


@pytest.mark.parametrize("name", ["sha256", "blake3", "xxh3", "none"])
async def test_download_digest(name: str, device: MultiCamDevice, tmp_path: Path) -> None:
    line = ("download", uri(device), "video_1.mp4", "--to", tmp_path, "--digest", name)
    document, shown = await asynccam(*line, "--json"), await asynccam(*line)
    file = document.json()["file"]
    value = "" if name == "none" else digest_of(cast("DigestName", name), FOOTAGE)
    assert (file["sha256"], file["digest"]) == (
        (value, "") if name == "sha256" else ("", f"{name}:{value}" if value else "")
    )
    assert value in shown.out.replace("\n", "").replace(" ", "")
    assert (f"\n{name}" in shown.out) is (name != "none")


async def test_download_unknown_digest_exits_2(tmp_path: Path) -> None:
    ended = await asynccam("download", "multicam://127.0.0.1:1", "a", "--to", tmp_path, "--digest", "md5")
    assert ended.code == 2
    assert "blake3" in ended.err


async def test_download_missing_file_exits_4(device: MultiCamDevice, tmp_path: Path) -> None:
    ended = await asynccam("download", uri(device), "nothing.mp4", "--to", tmp_path / "home", "--json")
    assert (ended.code, ended.out) == (4, "")
    assert "no such recording" in ended.err


async def test_download_unwritable_disk_exits_6(device: MultiCamDevice, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = await asynccam("download", uri(device), "video_1.mp4", "--to", tmp_path / "file" / "home")
    assert ended.code == 6
    assert ended.err.count("\n") == 1


async def test_broken_pipe_prints_nothing(device: MultiCamDevice) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "files", uri(device), "--json", stdout=writing, stderr=asyncio.subprocess.PIPE
    )
    os.close(writing)
    _, said = await process.communicate()
    assert (process.returncode, said) == (141, b"")


async def in_a_terminal(*arguments: str, **env: str) -> tuple[bytes, int]:
    """Return what a command writes to stderr when that is a terminal, and its exit code."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **env},
    )
    os.close(theirs)
    said = b""
    try:
        await process.communicate()
        os.set_blocking(ours, False)
        while block := os.read(ours, 65536):
            said += block
    except OSError:
        pass
    finally:
        os.close(ours)
    assert process.returncode is not None
    return said, process.returncode


async def test_wait_is_drawn_on_a_terminal(device: MultiCamDevice) -> None:
    said, code = await in_a_terminal("status", uri(device), "--json")
    assert code == 0
    assert b"asking multicam://" in said
    assert b"\x1b[33m" in said


async def test_no_color_is_honoured(device: MultiCamDevice) -> None:
    said, code = await in_a_terminal("status", uri(device), "--json", NO_COLOR="1")
    assert code == 0
    assert b"asking multicam://" in said
    assert b"\x1b[3" not in said


async def test_ctrl_c_while_a_device_is_silent_exits_130() -> None:
    silent = await asyncio.start_server(lambda _, writer: heard.set_result(writer), "127.0.0.1", 0)
    heard: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        async with started("status", f"multicam://127.0.0.1:{port}", "--json") as process:
            writer = await asyncio.wait_for(heard, 20)
            process.send_signal(2)
            out, err = await asyncio.wait_for(process.communicate(), 20)
        writer.close()
    assert (process.returncode, out, err) == (130, b"", b"")
