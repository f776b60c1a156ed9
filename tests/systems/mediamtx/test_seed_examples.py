"""Every example of the SDK's README, word for word but the import and the address, as a program."""

import asyncio
import inspect
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from asynccam.systems import mediamtx
from asynccam.systems.mediamtx import CameraClient, CameraInfo, RecordingInfo
from tests.support.waiting import eventually
from tests.systems.mediamtx.peer import Gen1, Peer, running

SEED = (Path(__file__).parent / "seed_examples.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^### (.*?)\n\n```python\n(.*?)```", SEED, re.DOTALL | re.MULTILINE))


def adapted(heading: str, peer: Peer) -> str:
    """An example with the import and the address changed, and nothing else."""
    source: str = BLOCKS[heading]
    for there, here in (
        ("from mediamtx_camera_sdk import", "from asynccam.systems.mediamtx import"),
        ('host="localhost",', 'host="127.0.0.1",'),
        ("port=8080,", f"port={peer.port},"),
    ):
        assert there in source
        source = source.replace(there, here)
    return source


def main_of(heading: str, peer: Peer) -> Callable[[], Awaitable[None]]:
    """The example's ``main``, to be run on the test's own loop."""
    names: dict[str, Any] = {"asyncio": asyncio}
    exec(compile(adapted(heading, peer), heading, "exec"), names)
    main: Callable[[], Awaitable[None]] = names["main"]
    return main


@pytest.fixture
async def peer() -> AsyncIterator[Gen1]:
    service = Gen1()
    service.valid = {"your_jwt_token_here", "your_api_key_here"}
    async with running(service):
        yield service


async def test_basic_usage_runs_as_a_program(peer: Peer, tmp_path: Path) -> None:
    program = tmp_path / "example.py"
    program.write_text(adapted("Basic Usage", peer), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (output.decode(), errors.decode()) == ("Found 1 cameras\nSnapshot saved: s.jpg\n", "")
    assert process.returncode == 0
    assert peer.called("take_snapshot")[0]["params"] == {"device": "/dev/video0"}


async def test_api_key_authentication(peer: Peer) -> None:
    await main_of("API Key Authentication", peer)()
    assert peer.called("authenticate")[0]["params"] == {
        "auth_token": "your_api_key_here",
        "token": "your_api_key_here",
        "auth_type": "api_key",
    }
    await eventually(lambda: not peer.visitors)


async def test_real_time_notifications(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    program = asyncio.ensure_future(main_of("Real-time Notifications", peer)())
    await eventually(lambda: peer.called("get_camera_list"))
    await peer.tell("camera_status_update", '{"device": "/dev/video0", "status": "DISCONNECTED"}')
    await peer.tell(
        "recording_status_update", '{"device": "/dev/video0", "status": "STARTED", "filename": "a"}'
    )
    said = ""

    def all_said() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return said.count("\n") == 2

    await eventually(all_said)
    assert said == "Camera /dev/video0 status: DISCONNECTED\nRecording a: STARTED\n"
    program.cancel()
    await asyncio.wait({program})
    await eventually(lambda: not peer.visitors)


async def test_error_handling(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    main = main_of("Error Handling", peer)
    await main()
    assert capsys.readouterr().out.startswith("Authentication failed: ")


async def test_error_handling_with_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    async with running(Gen1()) as gone:
        main = main_of("Error Handling", gone)
    await main()
    assert capsys.readouterr().out.startswith("Connection failed: ")


def test_ssl_configuration_makes_a_client_outside_of_any_loop() -> None:
    names: dict[str, Any] = {"CameraClient": CameraClient}
    exec(BLOCKS["SSL/TLS Configuration"], names)
    assert names["client"].endpoint.url == "wss://localhost:8080/ws"


def test_constructor_takes_sdk_arguments_in_sdk_order() -> None:
    positional = [
        name
        for name, parameter in inspect.signature(CameraClient).parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    assert positional == re.findall(r"^    (\w+):", BLOCKS["Constructor"], re.MULTILINE)


def test_data_classes_accept_sdk_names() -> None:
    camera = CameraInfo.model_validate(
        {"device_path": "/dev/v", "name": "n", "capabilities": ["a"], "status": "S", "stream_url": "rtsp://x"}
    )
    assert (camera.device, camera.capabilities, camera.stream_url) == ("/dev/v", ["a"], "rtsp://x")
    recording = RecordingInfo.model_validate(
        {"device_path": "/dev/v", "recording_id": "r", "filename": "f", "start_time": 1.5, "duration": None}
    )
    assert (recording.device_path, recording.recording_id, recording.start_time) == ("/dev/v", "r", 1.5)


def test_exceptions_have_sdk_names_and_one_root() -> None:
    for name in ("AuthenticationError", "ConnectionError", "CameraNotFoundError", "MediaMTXError"):
        assert issubclass(getattr(mediamtx, name), mediamtx.CameraServiceError)


@pytest.mark.parametrize(
    "method",
    [
        "connect",
        "disconnect",
        "ping",
        "get_camera_list",
        "get_camera_status",
        "take_snapshot",
        "start_recording",
        "stop_recording",
        "get_recording_status",
    ],
)
def test_client_has_all_sdk_methods(method: str) -> None:
    assert inspect.iscoroutinefunction(getattr(CameraClient, method))
