"""Two programs at one ThorVision camera: the second is told that it takes a stream over."""

import logging

import pytest

from asynccam.systems.thorvision import ThorVisionClient
from asynccam.systems.thorvision.events import StreamTakenOver
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import PICTURE, rig


async def test_who_takes_a_stream_over_is_told_and_who_does_not_is_not(
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
