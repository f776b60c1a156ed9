"""Gaps and first frames in the manifest: what recorders and services tell, and what bounds the rest."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from asynccam.model.events import CameraFound, CameraLost, CameraStateChanged
from asynccam.model.features import AnswerMeaning, RecordingGap, StopReport
from asynccam.model.info import CameraState
from asynccam.model.manifest import Manifest
from asynccam.recording import RecorderResumed, RecorderStalled, Watch
from asynccam.systems.mediamtx import CameraClient, MediaMtxCamera
from asynccam.systems.thorvision import ThorVisionCamera
from asynccam.take import Take
from tests.support.mediamtx_service import simulator
from tests.support.scripted_camera import ScriptedCamera
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import QUICK, rig


async def test_recorder_gap_is_in_the_manifest(tmp_path: Path) -> None:
    settings = replace(QUICK, watch=Watch(interval=0.1, stall=2.0), renew=False)
    async with rig(settings=settings) as made:
        camera = ThorVisionCamera(made.client, made.camera)
        async with Take([camera], tmp_path, name="take") as take:
            await take.arm()
            await take.start(start_in=0)
            stream = made.simulator.streams[0]
            stream.paused = True
            await eventually(lambda: made.of(RecorderStalled), timeout=20)
            stream.paused = False
            await eventually(lambda: made.of(RecorderResumed), timeout=20)
            await take.stop()
            await take.collect()
    (record,) = (await Manifest.load(take.directory)).cameras
    (gap,) = record.gaps
    assert gap.ended_at is not None
    assert gap.ended_at.unix - gap.began_at.unix >= 2.0
    assert (gap.restarted, gap.reason) == (False, "no frame arrived")
    assert record.first_frame_source == "seen"


async def test_camera_away_from_its_service_leaves_a_gap(tmp_path: Path) -> None:
    clip = b"clip" * 1000
    async with simulator(2, directory=tmp_path, clip=clip) as service:
        client = CameraClient(
            service.host, service.port, auth_token=service.token("admin"), http_port=service.http_port
        )
        async with client:
            camera, other = await MediaMtxCamera.all_of(client)
            async with Take([camera, other], tmp_path, name="take") as take:
                await take.arm()
                await take.start(start_in=0)
                heard: list[object] = []
                client.events.subscribe(heard.append)
                client.events.emit(CameraLost(camera=camera.id))
                client.events.emit(CameraFound(camera=camera.id, info=camera.info))
                client.events.emit(CameraStateChanged(camera=camera.id, state=CameraState.ERROR))
                await eventually(lambda: len(heard) == 3)
                await take.stop()
                await take.collect()
    first, second = take.manifest.cameras
    assert [gap.reason for gap in first.gaps] == ["the camera was unavailable at its service"] * 2
    assert first.gaps[0].ended_at is not None
    # The second one lasts to the stop, of which the service may tell before it answers.
    assert first.stop_commanded_at is not None
    ended = first.gaps[1].ended_at
    assert ended is None or ended.unix >= first.stop_commanded_at.unix
    assert second.gaps == []
    # A service of generation 2 answers without a word on its recorder, and nobody looked into the file.
    assert (second.answer_meaning, second.first_frame_source, second.first_frame_at) == ("heard", None, None)


async def test_first_frame_bound_needs_an_upper_limit(tmp_path: Path) -> None:
    class Recorder(ScriptedCamera):
        async def stop(self, *, timeout: float = 60.0) -> StopReport:
            report = await super().stop(timeout=timeout)
            gap = RecordingGap(report.commanded_at - 1, report.commanded_at, restarted=True, reason="dust")
            seen = report.commanded_at - 2
            return replace(report, first_frame_at=seen, first_frame_bound=0.01, gaps=(gap,))

    cameras = [
        ScriptedCamera("answers", meaning=AnswerMeaning.RECORDING),
        ScriptedCamera("hears"),
        ScriptedCamera("schedules", scheduled=True, clock=0.02),
        Recorder("tells"),
    ]
    take = await Take(cameras, tmp_path).run(duration=0.2, start_in=0.3)
    answers, hears, schedules, tells = take.manifest.cameras
    sources = [camera.first_frame_source for camera in take.manifest.cameras]
    assert sources == ["answer", None, "schedule", "seen"]
    assert take.manifest.start is not None
    assert schedules.first_frame_at is not None
    assert schedules.first_frame_at.unix == pytest.approx(take.manifest.start.t0_local.unix, abs=1e-5)
    assert schedules.first_frame_bound == pytest.approx(0.1 + 0.02 + 0.001, abs=0.001)
    assert (hears.first_frame_at, hears.first_frame_bound) == (None, None)
    assert [one.source for one in hears.evidence] == ["command"]
    assert answers.commanded_at is not None
    assert answers.accepted_at is not None
    assert answers.first_frame_at is not None
    assert answers.first_frame_bound is not None
    earliest = answers.first_frame_at.unix - answers.first_frame_bound
    assert earliest == pytest.approx(answers.commanded_at.unix, abs=1e-5)
    assert tells.first_frame_bound == 0.01
    assert [(gap.restarted, gap.reason) for gap in tells.gaps] == [(True, "dust")]
    assert answers.gaps == []
    assert await asyncio.to_thread((take.directory / "manifest.json").is_file)
