"""Recordings of one RTP stream while others send to the same port: senders are GStreamer's, as processes."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import pytest

from asynccam.errors import RecordingError, StateError, TimeoutError, UsageError
from asynccam.recording import (
    Pipeline,
    Recorder,
    RecorderOtherStream,
    RecorderProgress,
    RecorderResumed,
    RecorderStalled,
    RtpSource,
    SingleFile,
    SplitFiles,
    Verdict,
    Watch,
)
from asynccam.recording.rtp.port import RtpPort
from asynccam.wall_clock import elapsed
from tests.support.day_codes import pictures_of
from tests.support.gst import free_udp_port, running
from tests.support.waiting import eventually

WATCH = Watch(interval=0.1, stall=2.0)
Colour = Literal["white", "black"]
ELSEWHERE = "127.0.0.2"


def sender(port: int, colour: Colour, address: str = "127.0.0.1", ssrc: int | None = None) -> list[str]:
    """Pictures of one colour as RTP."""
    caps = "video/x-raw,format=I420,width=64,height=48,framerate=20/1"
    encode = ["x264enc", "speed-preset=ultrafast", "tune=zerolatency", "key-int-max=5"]
    pay = ["rtph264pay", "config-interval=-1", "pt=96", *([] if ssrc is None else [f"ssrc={ssrc}"])]
    sink = ["udpsink", "host=127.0.0.1", f"port={port}", f"bind-address={address}"]
    picture = ["videotestsrc", "is-live=true", f"pattern={colour}", "!", caps]
    return [*picture, "!", *encode, "!", *pay, "!", *sink]


async def frames_more(recorder: Recorder, count: int) -> None:
    """Wait until so many more frames have been counted."""
    events = recorder.events.stream(RecorderProgress)
    target: int | None = None
    async with asyncio.timeout(60):
        async for event in events:
            target = event.frames + count if target is None else target
            if event.frames >= target:
                return


async def colours(path: Path) -> set[Colour]:
    """Colours of all pictures of a file."""
    _, pictures = await pictures_of(path)
    return {"white" if sum(one) > 128 * len(one) else "black" for one in pictures}


async def test_foreign_sender_spoils_no_recording(tmp_path: Path) -> None:
    port = free_udp_port()
    source = RtpSource(port, latency=50, sender="127.0.0.1")
    async with (
        Recorder(Pipeline(source, SingleFile(tmp_path / "a.mp4")), watch=WATCH) as recorder,
        running(*sender(port, "black", ELSEWHERE)),
    ):
        others = recorder.events.stream(RecorderOtherStream)
        starting = asyncio.ensure_future(recorder.start(timeout=60))
        before = await anext(others)
        assert before.address == ELSEWHERE
        assert not starting.done()
        async with AsyncExitStack() as during:
            async with running(*sender(port, "white")):
                await starting
                await during.enter_async_context(running(*sender(port, "black", ELSEWHERE)))
                assert (await anext(others)).ssrc != before.ssrc
                await frames_more(recorder, 25)
            await anext(recorder.events.stream(RecorderStalled))
            (verdict,) = await recorder.stop()
    assert verdict.verdict is Verdict.COMPLETE
    assert await colours(verdict.path) == {"white"}
    assert recorder.rtp is not None
    assert recorder.rtp.left_out
    assert recorder.ended_early is not None
    assert ELSEWHERE in recorder.ended_early.reason


async def test_first_stream_is_recorded_without_a_known_sender(tmp_path: Path) -> None:
    port = free_udp_port()
    source = RtpSource(port, "127.0.0.1", latency=50)
    async with (
        Recorder(Pipeline(source, SingleFile(tmp_path / "a.mp4")), watch=WATCH) as recorder,
        running(*sender(port, "white")),
    ):
        await recorder.start(timeout=60)
        async with running(*sender(port, "black")):
            other = await anext(recorder.events.stream(RecorderOtherStream))
            await frames_more(recorder, 25)
            (verdict,) = await recorder.stop()
    assert await colours(verdict.path) == {"white"}
    assert recorder.rtp is not None
    assert recorder.rtp.sender is not None
    assert recorder.rtp.sender.ssrc != other.ssrc


async def test_new_stream_of_a_sender_is_not_appended(tmp_path: Path) -> None:
    port = free_udp_port()
    source = RtpSource(port, "127.0.0.1", latency=50)
    async with Recorder(Pipeline(source, SingleFile(tmp_path / "a.mp4")), watch=WATCH) as recorder:
        others = recorder.events.stream(RecorderOtherStream)
        stalls = recorder.events.stream(RecorderStalled)
        async with running(*sender(port, "white", ssrc=1)):
            await recorder.start(timeout=60)
            await frames_more(recorder, 10)
        async with running(*sender(port, "black", ssrc=2)):
            assert (await anext(others)).ssrc == 2
            stall = await anext(stalls)
            (verdict,) = await recorder.stop()
    assert await colours(verdict.path) == {"white"}
    assert recorder.ended_early is not None
    assert "0x00000002 has the same address" in recorder.ended_early.reason
    assert "0x00000001" in stall.reason or "0x00000001" in recorder.ended_early.reason


async def test_new_stream_of_a_sender_continues_in_a_new_file(tmp_path: Path) -> None:
    port = free_udp_port()
    source = RtpSource(port, "127.0.0.1", latency=50)
    watch = Watch(interval=0.1, stall=2.0, restart=True)
    async with Recorder(Pipeline(source, SplitFiles(tmp_path, "cam")), watch=watch) as recorder:
        resumes = recorder.events.stream(RecorderResumed)
        async with running(*sender(port, "white", ssrc=1)):
            await recorder.start(timeout=60)
            await frames_more(recorder, 10)
        async with running(*sender(port, "black", ssrc=2)):
            assert (await anext(resumes)).gap.restarted
            await frames_more(recorder, 10)
            first, second = await recorder.stop()
    assert await colours(first.path) == {"white"}
    assert await colours(second.path) == {"black"}


async def test_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        async with Recorder(Pipeline(RtpSource(port), SingleFile(tmp_path / "a.mp4"))) as recorder:
            with pytest.raises(RecordingError, match=f"UDP port {port} .*; end the program"):
                await recorder.start()
    assert list(tmp_path.iterdir()) == []


async def test_two_recorders_do_not_share_a_port(tmp_path: Path) -> None:
    port = free_udp_port()
    first = Recorder(Pipeline(RtpSource(port, latency=50), SingleFile(tmp_path / "a.mp4")), watch=WATCH)
    second = Recorder(Pipeline(RtpSource(port, latency=50), SingleFile(tmp_path / "b.mp4")))
    async with first, second, running(*sender(port, "white")):
        await first.start(timeout=60)
        with pytest.raises(RecordingError, match=f"UDP port {port}"):
            await second.start()
        # Neither does a program that would share.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
        await frames_more(first, 10)
        (verdict,) = await first.stop()
    assert verdict.verdict is Verdict.COMPLETE
    third = Recorder(Pipeline(RtpSource(port, latency=50), SingleFile(tmp_path / "c.mp4")))
    async with third, running(*sender(port, "white")):
        await third.start(timeout=60)


async def test_only_foreign_packets_are_an_error_naming_them(tmp_path: Path) -> None:
    port = free_udp_port()
    source = RtpSource(port, latency=50, sender="127.0.0.3")
    async with (
        Recorder(Pipeline(source, SingleFile(tmp_path / "a.mp4"))) as recorder,
        running(*sender(port, "black", ELSEWHERE)),
    ):
        with pytest.raises(TimeoutError, match=f"of other senders were left out: {ELSEWHERE}"):
            await recorder.start(timeout=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("known", [True, False])
async def test_held_port_takes_the_requested_stream(tmp_path: Path, *, known: bool) -> None:
    """The foreign sender has the same address, and sends before the stream is asked for."""
    port = RtpPort(0, "127.0.0.1", held=True)
    source = RtpSource(port.port, "127.0.0.1", latency=50, sender="127.0.0.1", held=port)
    try:
        async with (
            Recorder(Pipeline(source, SingleFile(tmp_path / "a.mp4")), watch=WATCH) as recorder,
            running(*sender(port.port, "black")),
        ):
            starting = asyncio.ensure_future(recorder.start(timeout=60))
            await recorder.listening()
            await eventually(lambda: recorder.rtp is not None and recorder.rtp.candidates)
            asked = elapsed()
            async with running(*sender(port.port, "white", ssrc=1)):
                port.choose(asked, 1 if known else None)
                await starting
                await frames_more(recorder, 25)
                (verdict,) = await recorder.stop()
    finally:
        port.close()
    assert await colours(verdict.path) == {"white"}


async def test_both_kinds_of_addresses_come_to_a_port_for_all(tmp_path: Path) -> None:
    port = free_udp_port()
    source = RtpSource(port, "::", latency=50, sender="127.0.0.1")
    async with (
        Recorder(Pipeline(source, SingleFile(tmp_path / "a.mp4"))) as recorder,
        running(*sender(port, "white")),
    ):
        await recorder.start(timeout=60)
    assert recorder.rtp is not None
    assert recorder.rtp.sender is not None
    assert recorder.rtp.sender.address == "127.0.0.1"


def test_members_of_a_multicast_group_share_a_port() -> None:
    group = "239.255.77.7"
    first = RtpPort(0, group)
    second = RtpPort(first.port, group)
    assert second.port == first.port
    first.close()
    second.close()


def test_invalid_address_is_refused() -> None:
    with pytest.raises(UsageError, match="'camera' is not an IP address"):
        RtpSource(5004, sender="camera")
    with pytest.raises(UsageError, match="is not a local address"):
        RtpPort(5004, "256.1.1.1")


def test_closed_port_is_not_received_at() -> None:
    port = RtpPort(0, "127.0.0.1", held=True)
    port.close()
    port.close()
    port.choose(0.0)
    with pytest.raises(StateError, match="was closed"):
        port.descriptors  # noqa: B018 - the property raises
