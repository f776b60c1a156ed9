"""Sources of frames: each is a chain that ends in one encoded video stream."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Final, Literal, Protocol

from asynccam.errors import UsageError
from asynccam.recording.elements import Chain, Codec, GstElement, PadOf, Value, caps, encode
from asynccam.recording.mosaic import timecode
from asynccam.recording.rtp.port import RtpPort, normalize_address

TO_FILTER: Final = "@to-filter"
"""Placeholder of the descriptor that leads into `asynccam.recording.jpeg_filter`, in a property ``fd``."""
FROM_FILTER: Final = "@from-filter"
"""Placeholder of the descriptor that leads out of that filter."""
FROM_PORT: Final = "@from-port"
"""Placeholder of the descriptor that packets are read from, see `asynccam.recording.rtp.filter`."""
RTP_READER: Final = "port"
"""Name of the element that reads packets. As the first of its pipeline it is the last to be set to play."""
TIMESTAMPER: Final = "timestamper"
"""Name of the element that works out decoding times. It reports its latency at the first frame."""

_SENDER_PACE: Final = "synced"
"""Frames are as far apart as the sender says.

GStreamer would correct the sender's clock by the packets that arrive earliest. With B frames a frame is sent
before others that are shown earlier, which would count for a clock that is wrong: in the first seconds times
are out of order by a tenth of a second and more, and a video becomes shorter than it is.
"""

Feed = Callable[[], Iterator[bytes]]
"""Makes the chunks that the process is given on its standard input."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Elements of a source.

    Attributes:
        feed: Data for the standard input of the process, or None; without it no frame arrives.
        live: So many elements of ``chain`` give frames as they arrive, each decodable without another:
            those before a start can be discarded behind them. 0 where that is not so.
        latency: Seconds that every frame is held back, for losses to be mended or frames to be put in order.
        after_counter: Elements that hold frames back for a while, and so follow the one that counts them.
        filtered: Whether one of ``others`` writes Motion JPEG to `TO_FILTER`, and ``chain`` reads from
            `FROM_FILTER` the pictures that are not spoiled, in GStreamer's data protocol.
    """

    chain: Chain  # elements up to the encoded and parsed stream
    codec: Codec  # codec of that stream
    others: tuple[Chain, ...] = ()  # further chains that feed the first one
    feed: Feed | None = None
    live: int = 0
    latency: float = 0.0
    after_counter: Chain = ()
    caution: str = ""  # possible flaw of the recording, for want of an element, or ``""``
    filtered: bool = False
    rtp: "RtpSource | None" = None  # whose packets ``chain`` reads, by `FROM_PORT`


class Source(Protocol):
    """Source of frames."""

    def stream(self, installed: frozenset[str]) -> Stream:
        """Return its elements, chosen from the installed ones."""
        ...


@dataclass(frozen=True, slots=True)
class TestPattern:
    """Test picture with a moving part, made on this computer at the pace of its clock.

    Attributes:
        label: Text beside the time code; letters outside ASCII show as ``?``.
        pattern: A ``videotestsrc`` pattern; ``ball`` and ``smpte`` are good ones.
        width: Pixels, even.
        height: Pixels, even.
        fps: Frames a second.
        time_code: Text of each frame: its ``running`` time, which True means too, the ``day``'s time by
            this computer's clock, or nothing for False.
        bitrate: kbit/s.
        encoder: One of `asynccam.recording.elements.ENCODERS`, or None for the best that is installed.
        codec: ``h264``, or ``jpeg`` for Motion JPEG.
    """

    __test__ = False  # not a test class, despite its name

    label: str = ""
    pattern: str = "ball"
    width: int = 640
    height: int = 360
    fps: Fraction = Fraction(30)
    time_code: bool | Literal["running", "day"] = True
    bitrate: int = 2000
    encoder: str | None = None
    codec: Literal["h264", "jpeg"] = "h264"

    def __post_init__(self) -> None:
        if self.width < 16 or self.height < 16 or self.width % 2 or self.height % 2:
            raise UsageError(f"width and height must be even and >= 16, not {self.width}x{self.height}")
        if self.fps <= 0:
            raise UsageError(f"fps must be > 0, not {self.fps}")

    def stream(self, installed: frozenset[str]) -> Stream:
        """Return its elements."""
        fps = Fraction(self.fps)
        size = caps("video/x-raw", format="I420", width=self.width, height=self.height, framerate=fps)
        encoded = encode(self.codec, self.encoder, installed, self.bitrate, fps)
        if not self.time_code:
            picture = GstElement("videotestsrc", {"is-live": True, "pattern": self.pattern})
            return Stream((picture, size, *encoded), self.codec, live=2)
        day = self.time_code == "day"
        main, overlay, feed = with_time_code(
            self.pattern, self.label, (self.width, self.height), fps, of_day=day
        )
        return Stream((*main, *encoded), self.codec, (overlay,), feed)


@dataclass(frozen=True, slots=True)
class V4l2Source:
    """Camera of this computer, encoded to H.264.

    Attributes:
        device: Its device file.
        width: Pixels, or None for the device's own choice.
        height: Pixels, or None.
        fps: Frames a second, or None.
        media: Format asked of the device: ``raw`` pictures, or ``jpeg``, which USB cameras need
            for their larger sizes and which is decoded here.
        bitrate: kbit/s.
        encoder: One of `asynccam.recording.elements.ENCODERS`, or None for the best that is installed.
    """

    device: str = "/dev/video0"
    width: int | None = None
    height: int | None = None
    fps: Fraction | None = None
    media: Literal["raw", "jpeg"] = "raw"
    bitrate: int = 4000
    encoder: str | None = None

    def stream(self, installed: frozenset[str]) -> Stream:
        """Return its elements."""
        media = "image/jpeg" if self.media == "jpeg" else "video/x-raw"
        decode = (GstElement("jpegdec"),) if self.media == "jpeg" else ()
        return Stream(
            (
                GstElement("v4l2src", {"device": self.device}),
                caps(media, width=self.width, height=self.height, framerate=self.fps),
                GstElement("queue"),
                *decode,
                *encode("h264", self.encoder, installed, self.bitrate, self.fps),
            ),
            "h264",
            live=2,
        )


@dataclass(frozen=True, slots=True)
class SrtJpegSource:
    """Motion JPEG over SRT; this computer is the caller. See docs/protocols/thorvision.md.

    Attributes:
        host: The server.
        port: Its SRT port.
        latency: Milliseconds within which SRT mends losses.
    """

    host: str
    port: int
    latency: int = 500

    def stream(self, installed: frozenset[str]) -> Stream:
        """Return its elements."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        receive: Chain = (
            GstElement(
                "srtsrc", {"uri": f"srt://{host}:{self.port}", "mode": "caller", "latency": self.latency}
            ),
            GstElement("queue"),
            GstElement("fdsink", {"fd": TO_FILTER, "sync": False, "async": False}),
        )
        pictures = GstElement("fdsrc", {"fd": FROM_FILTER, "blocksize": 1 << 16})
        frames: Chain = (pictures, GstElement("gdpdepay"), GstElement("jpegparse"))
        return Stream(frames, "jpeg", (receive,), live=3, latency=self.latency / 1000, filtered=True)


@dataclass(frozen=True, slots=True)
class RtspSource:
    """Video from an RTSP server, not encoded again.

    Attributes:
        url: ``rtsp://`` or ``rtsps://``. GStreamer takes it from its command line only, so
            credentials in it can be read in this computer's process list while it records.
        codec: Codec that the server sends.
        transport: ``tcp`` loses nothing on the way; ``udp`` is quicker.
        latency: Milliseconds of jitter buffer.
    """

    url: str
    codec: Literal["h264", "h265"] = "h264"
    transport: Literal["tcp", "udp"] = "tcp"
    latency: int = 200

    def stream(self, installed: frozenset[str]) -> Stream:
        """Return its elements."""
        receive: dict[str, Value] = {
            "location": self.url,
            "protocols": self.transport,
            "latency": self.latency,
            "buffer-mode": _SENDER_PACE,
        }
        chain: Chain = (GstElement("rtspsrc", receive), caps("application/x-rtp", media="video"))
        return _rtp_stream(chain, self.codec, self.latency, installed)


@dataclass(frozen=True, slots=True)
class RtpSource:
    """Video that arrives as RTP over UDP, not encoded again. See docs/protocols/nanocam.md.

    One stream is recorded: the first that arrives, and its packets only. A stream is known by its sender's
    address and port and its SSRC (RFC 3550, 8). No other program of this computer can receive there
    meanwhile.

    Attributes:
        port: UDP port to listen on.
        address: Local address, ``0.0.0.0`` or ``::`` for all, or a multicast group.
        codec: Codec that is sent.
        payload: RTP payload type; packets of another one are left out.
        latency: Milliseconds of jitter buffer.
        sender: IP address of the sender, or None for the first one that sends.
        rtcp_port: UDP port for RTCP, or None if it arrives at ``port`` too (RFC 5761) or not at all.
        held: ``port`` if it is bound already, or None.

    Raises:
        UsageError: The sender is not an IP address.
    """

    port: int
    address: str = "0.0.0.0"  # noqa: S104 - cameras send from other computers
    codec: Literal["h264", "h265"] = "h264"
    payload: int = 96
    latency: int = 200
    sender: str | None = None
    rtcp_port: int | None = None
    held: RtpPort | None = None

    def __post_init__(self) -> None:
        if self.sender is not None:
            normalize_address(self.sender)

    def stream(self, installed: frozenset[str]) -> Stream:
        """Return its elements."""
        rtp = (
            "application/x-rtp,media=video,clock-rate=90000,"
            f"encoding-name={self.codec.upper()},payload={self.payload}"
        )
        # Reading a socket gives one packet at a time. A source that is not live would hold up the pipeline
        # until the first one, so a live one is added beside it.
        # A block is larger than any UDP datagram (RFC 768: 16 bits of length), so each read is one packet.
        packets = GstElement(
            "fdsrc", {"name": RTP_READER, "fd": FROM_PORT, "blocksize": 1 << 16, "do-timestamp": True}
        )
        lively: Chain = (
            GstElement("fakesrc", {"is-live": True, "num-buffers": 0}),
            GstElement("fakesink", {"async": False, "sync": False}),
        )
        chain: Chain = (
            packets,
            GstElement("capsfilter", {"caps": rtp}),
            GstElement("rtpjitterbuffer", {"latency": self.latency, "mode": _SENDER_PACE}),
        )
        return replace(_rtp_stream(chain, self.codec, self.latency, installed), others=(lively,), rtp=self)


def with_time_code(
    pattern: str, label: str, size: tuple[int, int], fps: Fraction, *, of_day: bool
) -> tuple[Chain, Chain, Feed]:
    """Return a raw test picture at the pace of this computer's clock with a time code in it.

    Returns the picture's chain, the one that feeds it, and the data for the process's standard input. The
    time is that of day if ``of_day``, else the running time. ``size`` is the width and height in pixels.
    """
    # Not live, so that the compositor waits for both pictures of a frame and never shows one
    # without the other; the pace is set behind it, from the first frame on, however long that was waited for.
    picture = GstElement("videotestsrc", {"pattern": pattern})
    shape = caps("video/x-raw", format="I420", width=size[0], height=size[1], framerate=fps)
    length = timecode.CODE_LENGTH + (len(label) + 1 if label else 0)
    scale = max(1, min(max(4, size[0] // 160), size[0] * 9 // 10 // timecode.text_size(length, 1)[0]))
    width, height = timecode.text_size(length, scale)
    mix = GstElement(
        "compositor",
        {
            "name": "mix",
            # At the end a time code may be left over without a picture.
            "sink_0::repeat-after-eos": True,
            "sink_1::xpos": 2 * scale,
            "sink_1::ypos": 2 * scale,
        },
    )
    overlay: Chain = (
        GstElement("fdsrc", {"fd": 0, "blocksize": width * height}),
        GstElement("rawvideoparse", {"format": "gray8", "width": width, "height": height, "framerate": fps}),
        GstElement("videoconvert"),
        PadOf("mix"),
    )
    feed = partial(timecode.DayTimeCode if of_day else timecode.running_time_pictures, label, fps, scale)
    pace = GstElement("clocksync", {"sync-to-first": True})
    return (picture, shape, mix, shape, pace), overlay, feed


def _rtp_stream(
    receive: Chain, codec: Literal["h264", "h265"], latency: int, installed: frozenset[str]
) -> Stream:
    """Return the stream of RTP packets that a chain receives and holds back for some milliseconds."""
    # config-interval -1 puts parameter sets before every key frame, so each segment stands alone;
    # alignment au keeps a frame's slices together.
    parse = GstElement(f"{codec}parse", {"config-interval": -1})
    # As a byte stream the parameter sets come with the first frame and not before it, so that what is known
    # of them is a sign of that frame, see `TIMESTAMPER`.
    stream = caps(f"video/x-{codec}", stream_format="byte-stream", alignment="au")
    frames = (GstElement(f"rtp{codec}depay"), stream, parse, caps(f"video/x-{codec}", alignment="au"))
    # RTP carries the time at which a frame is shown only (RFC 6184, 5.1; RFC 7798, 4.1). With B frames the
    # order of decoding is another one, and MP4 and MPEG-TS need both times.
    after_counter: Chain = (GstElement(f"{codec}timestamper", {"name": TIMESTAMPER}),)
    caution = ""
    if not restores_decode_times(codec, installed):
        after_counter = ()
        caution = f"B frames would have wrong times: {codec}timestamper is missing, which GStreamer 1.22 has"
    return Stream(
        (*receive, *frames), codec, latency=latency / 1000, after_counter=after_counter, caution=caution
    )


def restores_decode_times(codec: Literal["h264", "h265"], installed: frozenset[str]) -> bool:
    """Return whether B frames get right times from RTP and RTSP, as with GStreamer 1.22 and later."""
    return f"{codec}timestamper" in installed
