"""Recordings of RTP begin with the frame that the filter calls the first, whatever the stream begins with."""

import asyncio
import re
import socket
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import pytest

from asynccam.recording import Pipeline, Recorder, RtpSource, SingleFile, TestPattern, Watch
from asynccam.recording.outputs import RtpOutput
from asynccam.recording.rtp.filter import StreamFilter
from tests.support.day_codes import pictures_of, read_line
from tests.support.gst import free_udp_port

FPS = 20
FRAMES = 50
HERE = ("127.0.0.1", 4000)
WATCH = Watch(interval=0.1, stall=30.0)

Frames = list[list[bytes]]


def stamp(packet: bytes) -> int:
    return int.from_bytes(packet[4:8])


async def frames_of_a_sender() -> Frames:
    """Packets of GStreamer's, frame by frame; each shows its own time, and every twentieth is a key frame."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        port.bind(("127.0.0.1", 0))
        port.setblocking(False)
        picture = TestPattern(pattern="snow", fps=Fraction(FPS), time_code="running")
        output = RtpOutput("127.0.0.1", port.getsockname()[1])
        found: list[bytes] = []
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60), Recorder(Pipeline(picture, output)) as recorder:
            starting = asyncio.ensure_future(recorder.start(timeout=60))
            while len({stamp(one) for one in found}) <= FRAMES:
                found.append(await loop.sock_recv(port, 1 << 16))
            await starting
    frames = [list(packets) for _, packets in groupby(found, stamp)][:FRAMES]
    assert len(frames[0]) > 3
    return frames


def cut(frames: Frames, kind: str) -> tuple[Frames, int]:
    """Return what arrives of them, and which is the first that is whole and can be decoded."""
    first = frames[0]
    match kind:
        case "whole":
            return frames, 0
        case "out of order":
            return [[first[1], first[0], *first[2:-2], first[-1], first[-2]], *frames[1:]], 0
        case "no key frame":
            return frames[5:], 20
        case "its beginning lost":
            return [first[len(first) // 2 :], *frames[1:]], 20
        case "its middle lost":
            return [[*first[: len(first) // 2], *first[len(first) // 2 + 1 :]], *frames[1:]], 20
    return [first[:-1], *frames[1:]], 20


KINDS = ["whole", "out of order", "no key frame", "its beginning lost", "its middle lost", "its end lost"]


@pytest.mark.timeout(180)
async def test_file_begins_with_the_reported_first_frame(tmp_path: Path) -> None:
    frames = await frames_of_a_sender()
    ports = {kind: free_udp_port() for kind in KINDS}
    recorders = {
        kind: Recorder(
            Pipeline(RtpSource(port, latency=50, sender="127.0.0.1"), SingleFile(tmp_path / f"{port}.mp4")),
            watch=WATCH,
        )
        for kind, port in ports.items()
    }
    for kind, recorder in recorders.items():
        sent, first = cut(frames, kind)
        async with recorder:
            starting = asyncio.ensure_future(recorder.start(timeout=60))
            await asyncio.wait(
                {starting, asyncio.ensure_future(recorder.listening())}, return_when="FIRST_COMPLETED"
            )
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for packets in sent:
                    for packet in packets:
                        sender.sendto(packet, ("127.0.0.1", ports[kind]))
                    await asyncio.sleep(1 / FPS)  # the pace of the pictures
            await starting
            (verdict,) = await recorder.stop()
        assert recorder.rtp is not None
        assert recorder.rtp.times.stamp == stamp(frames[first][0]), kind
        width, pictures = await pictures_of(verdict.path)
        shown = [re.findall(r"\d\d:\d\d:(\d\d\.\d+)", read_line(one, width, 4)) for one in pictures]
        assert shown[0], kind
        assert round(float(shown[0][0]) * FPS) == first, kind


async def test_undecodable_packets_are_not_passed_on() -> None:
    frames = await frames_of_a_sender()
    for kind in KINDS:
        sent, first = cut(frames, kind)
        one = StreamFilter(96, codec="h264")
        given = [
            data
            for at, packets in enumerate(sent)
            for packet in packets
            for data in one.feed(packet, HERE, at)
        ]
        assert given == [packet for packets in frames[first:] for packet in packets] or kind == "out of order"
        assert sorted(given) == sorted(packet for packets in frames[first:] for packet in packets)
        told = [line.split()[2] for line in one.lines if line.startswith("frame")]
        assert told == [str(stamp(packets[0])) for packets in frames[first:]]
