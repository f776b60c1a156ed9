"""The device's idea of the right time: asked of a time server, believed for a while, missed aloud once."""

import asyncio
import logging
import time

import pytest

from asynccam.systems.multicam.device.clock import NtpOffset
from tests.support.fake_clock import FakeClock
from tests.support.ntp_server import Answer, ntp_server, says
from tests.support.waiting import eventually


def silent(*_: object) -> None:
    """A time server that answers nothing."""


async def test_offset_before_first_reply_is_unknown() -> None:
    async with ntp_server(silent) as server, NtpOffset("127.0.0.1", server.port) as offset:
        await eventually(lambda: server.requests)
        assert offset() is None


async def test_offset_is_server_minus_computer() -> None:
    async with ntp_server(says(12.5, time.time)) as server, NtpOffset("127.0.0.1", server.port) as offset:
        await eventually(lambda: offset() is not None)
        assert offset() == pytest.approx(12.5, abs=0.2)


async def test_offset_is_remeasured_and_expires_without_replies(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock(1_700_000_000.123457)  # not a whole second, which would be taken for the clock's step
    good: Answer = says(0.0, clock.time)
    answers = [good] * 8 + [says(2.0, clock.time)] * 8 + [silent]
    async with (
        ntp_server(*answers) as server,
        NtpOffset("127.0.0.1", server.port, interval=100, clock=clock) as offset,
    ):
        await clock.until_sleeping()
        assert offset() == pytest.approx(0.0, abs=0.2)
        await clock.advance(100)
        await eventually(lambda: (offset() or 0) > 1)
        await clock.until_sleeping()
        clock.move(401)
        assert offset() is None
    assert not caplog.records


async def test_unreachable_server_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    caplog.set_level(logging.WARNING)
    async with ntp_server(says(0.0, time.time)) as server:
        port = server.port
    await asyncio.sleep(0)
    async with NtpOffset("127.0.0.1", port, clock=clock) as offset:
        for _ in range(3):
            await clock.until_sleeping()
            await clock.advance(15)
        assert offset() is None
    assert len(caplog.records) == 1
    assert "no time from 127.0.0.1" in caplog.text
