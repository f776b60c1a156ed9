"""``asynccam top``: one look, and the picture it draws."""

import io
import socket
from collections.abc import AsyncIterator

import pytest
from rich.console import Console

from asynccam import Session
from asynccam.cli.output import THEME
from asynccam.cli.top_view import TopView
from asynccam.errors import DeviceError
from asynccam.model.events import (
    CameraFailed,
    CameraLost,
    CameraStateChanged,
    RecordingStarted,
    RecordingStopped,
    TakePhaseChanged,
)
from asynccam.model.info import CameraState
from asynccam.systems.thorvision import ThorVisionSimulator
from tests.support.command import asynccam
from tests.support.scripted_camera import ScriptedCamera
from tests.support.set_clock import SetClock

HILL, LAKE = "scripted://Hill", "scripted://Lake"


@pytest.fixture
async def server() -> AsyncIterator[ThorVisionSimulator]:
    async with ThorVisionSimulator() as server:
        yield server


async def test_top_once_shows_available_and_unavailable(server: ThorVisionSimulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"multicam://127.0.0.1:{taken.getsockname()[1]}"
    ended = await asynccam("top", server.address, nobody, "--interface", "127.0.0.1", "--once", "--json")
    assert (ended.code, ended.err) == (0, "")
    *there, away = ended.json()["cameras"]
    assert {one["system"] for one in there} == {"thorvision"}
    assert {one["state"] for one in there} == {"ready"}
    assert (away["id"], away["state"]) == (nobody, "away")
    assert "refused" in away["reason"]


async def test_top_without_terminal_prints_once(server: ThorVisionSimulator) -> None:
    ended = await asynccam("top", server.address, "--interface", "127.0.0.1")
    assert ended.code == 0
    assert "✔ ready" in ended.out


async def test_top_without_cameras() -> None:
    ended = await asynccam("top", "--once")
    assert (ended.code, ended.out) == (2, "")
    assert "--fleet" in ended.err


def drawn(view: TopView) -> str:
    console = Console(file=io.StringIO(), width=120, theme=THEME)
    console.print(view)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("seconds", [3.0, -3.0, 7200.0, -31_536_000.0])
async def test_top_view_age_ignores_clock_steps(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    clock = SetClock(monkeypatch)
    async with Session(poll_interval=None) as session:
        view = TopView(session)
        session.add(ScriptedCamera("Lake"))
        session.emit(CameraStateChanged(camera=LAKE, state=CameraState.READY))
        clock.sleep(300)
        before = drawn(view)
        clock.step(seconds)
        assert " 5:0" in before
        assert " 5:0" in drawn(view)


async def test_top_view_follows_events() -> None:
    async with Session(poll_interval=None) as session:
        view = TopView(session)
        with session.events.subscribe(view.handle, replay=True) as subscription:
            session.add(ScriptedCamera("Lake"))
            session.add(ScriptedCamera("Hill"))
            session.emit(CameraStateChanged(camera=LAKE, state=CameraState.READY))
            session.emit(RecordingStarted(camera=HILL))
            session.emit(TakePhaseChanged(take="first", phase="recording"))
            await subscription.drained()
            hill, lake = view.rows()
            assert (hill.name, hill.state, lake.name, lake.state) == ("Hill", "recording", "Lake", "ready")
            assert "2 cameras   1 recording" in drawn(view)

            session.emit(RecordingStopped(camera=HILL, files=("a.mp4",)))
            session.emit(CameraFailed(camera=LAKE, step="clock", error=DeviceError("no \x1b[31mtime")))
            await subscription.drained()
            hill, lake = view.rows()
            assert hill.state == "unknown"
            assert hill.last == "recording stopped: a.mp4"
            assert lake.last == "clock failed: no \\x1b[31mtime"

            session.emit(CameraStateChanged(camera=HILL, state=CameraState.ERROR, reason="hot"))
            session.emit(CameraLost(camera=LAKE))
            await subscription.drained()
            assert [row.state for row in view.rows()] == ["error", "away"]
            picture = drawn(view)
            assert "✗ error" in picture
            assert "hot" in picture
            assert "1 away" in picture
