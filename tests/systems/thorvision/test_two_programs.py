"""Two programs at one ThorVision camera: the second is told that it takes a stream over."""

import logging
from pathlib import Path

import pytest

from asynccam.recording import Verdict
from asynccam.systems.thorvision import ThorVisionClient
from asynccam.systems.thorvision.events import StreamTakenOver
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import PICTURE, rig


async def test_takeover_is_reported_to_the_second_client_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with rig() as first:
        await first.client.open_stream(first.camera, PICTURE)
        async with ThorVisionClient("127.0.0.1", first.simulator.port, timeout=5.0) as second:
            told: list[StreamTakenOver] = []
            second.events.subscribe(told.append, StreamTakenOver)
            with caplog.at_level(logging.WARNING):
                await second.open_stream(first.camera, PICTURE)
            await eventually(lambda: told)
            assert [one.camera for one in told] == [second.camera_id(first.camera)]
            assert "taken over" in caplog.text
        assert not first.of(StreamTakenOver)


async def test_stop_before_a_takeover_is_noticed_reaches_the_server(tmp_path: Path) -> None:
    """Frames have not stopped for long enough: the file is finished, and the other stream is stopped too."""
    async with rig() as first, ThorVisionClient("127.0.0.1", first.simulator.port, timeout=5.0) as second:
        await first.client.start_stream_with_recording(first.camera, PICTURE, output_dir=tmp_path)
        await second.open_stream(first.camera, PICTURE)
        stopped = await first.client.stop_stream(0)
        assert not stopped.taken_away
        assert stopped.server_error is None
        assert [file.verdict for file in stopped.files] == [Verdict.COMPLETE]
        assert not first.simulator.streams
        # The second client's own stop is refused by an idle server.
        assert (await second.stop_stream(0)).server_error is not None
