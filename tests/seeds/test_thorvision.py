"""pythorvision: what its README promises, against our simulated server; it has no Python block to run."""

import asyncio
import inspect
from pathlib import Path

from asynccam.recording import Verdict
from asynccam.systems.thorvision import ThorVisionClient, ThorVisionSimulator, XdaqClient, simulated_camera


def test_client_has_both_names_and_the_makers_defaults() -> None:
    assert XdaqClient is ThorVisionClient
    parameters = inspect.signature(ThorVisionClient).parameters
    assert list(parameters)[:2] == ["host", "port"]
    assert (parameters["host"].default, parameters["port"].default) == ("192.168.177.100", 8000)
    keywords = inspect.signature(ThorVisionClient.start_stream_with_recording).parameters
    promised = ("split_max_files", "split_max_time_sec", "split_max_size_mb", "gstreamer_debug")
    assert [keywords[name].default for name in promised] == [0, 0, 0, False]


async def test_tutorial(tmp_path: Path) -> None:
    """Connect, list, choose, record, stop: its test script, awaited."""
    camera = simulated_camera(0, width=64, height=64)
    async with ThorVisionSimulator([camera]) as server, XdaqClient("127.0.0.1", server.port) as client:
        (found,) = await client.list_cameras()
        assert (found.id, found.name) == (camera.id, camera.name)
        capability = found.capabilities[0]
        started = await client.start_stream_with_recording(found, capability, output_dir=str(tmp_path))
        assert started["camera_id"] == found.id
        await asyncio.sleep(0.3)  # the length of the recording
        stopped = await client.stop_stream(found.id)
        assert [file.verdict for file in stopped["files"]] == [Verdict.COMPLETE]
        await client.cleanup()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mkv"]
