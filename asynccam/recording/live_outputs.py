"""Where streams go that are not kept on a disk: over the network, or to this process."""

import re
from dataclasses import dataclass
from typing import Final

from asynccam.errors import UsageError
from asynccam.recording.elements import Chain, GstElement, PadOf, Value, caps
from asynccam.recording.encoders import Codec
from asynccam.recording.outputs import FileSet, Sink

NO_FILES: Final = FileSet(None, re.compile("(?!)"))
_SESSION: Final = "rtp"
_PAYABLE: Final = ("h264", "h265", "vp8", "vp9")


@dataclass(frozen=True, slots=True)
class RtpOutput:
    """RTP over UDP to one receiver. See docs/protocols/nanocam.md.

    Attributes:
        host: The receiver.
        port: Its UDP port.
        payload: RTP payload type.
        ssrc: SSRC of the stream (RFC 3550, 3), or None for one that GStreamer chooses.
        reports: Whether RTCP sender reports go to the same port (RFC 5761), which not every receiver tells
            from RTP. They are of when frames were made, where the source stamps them with that.
    """

    host: str
    port: int
    payload: int = 96
    ssrc: int | None = None
    reports: bool = False

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535 or not 0 <= self.payload <= 127:
            raise UsageError(f"not a receiver of RTP: {self}")

    @property
    def directory(self) -> None:
        """None: there are no files."""
        return

    def sink(self, codec: Codec, run: int) -> Sink:
        """The elements for one run."""
        if codec not in _PAYABLE:
            raise UsageError(f"RTP is sent from {', '.join(_PAYABLE)}, not from {codec}")
        pay: dict[str, Value] = {"pt": self.payload}
        form: Chain = ()
        if codec in ("h264", "h265"):
            # Parameter sets before every key frame: whoever listens late understands.
            pay["config-interval"] = -1
            form = (caps(f"video/x-{codec}", stream_format="byte-stream"),)
        receiver: dict[str, Value] = {"host": self.host, "port": self.port}
        if self.ssrc is not None:
            pay["ssrc"] = self.ssrc
        if not self.reports:
            chain = (*form, GstElement(f"rtp{codec}pay", pay), GstElement("udpsink", receiver))
            return Sink(chain, NO_FILES, byte_stream=True)
        # Reports are of when pictures were made, and come from the beginning on: RFC 4585, 3.4, does not make
        # the first ones wait for seconds, as RFC 3550, 6.2, does.
        session: dict[str, Value] = {"name": _SESSION, "rtcp-sync-send-time": False, "rtp-profile": "avpf"}
        reports = GstElement("udpsink", {**receiver, "sync": False, "async": False})
        return Sink(
            (*form, GstElement(f"rtp{codec}pay", pay), PadOf(_SESSION, "send_rtp_sink_0")),
            NO_FILES,
            byte_stream=True,
            others=(
                (GstElement("rtpbin", session),),
                (PadOf(_SESSION, "send_rtp_src_0"), GstElement("udpsink", receiver)),
                (PadOf(_SESSION, "send_rtcp_src_0"), reports),
            ),
        )


@dataclass(frozen=True, slots=True)
class RawFrames:
    """Frames that are not encoded, written to a descriptor of this process, each with its size and form.

    What comes out of it is GStreamer's data protocol 1.0, which ``gdppay`` writes.

    Attributes:
        fd: The writing end of a pipe, which the process inherits.
        pixels: A GStreamer video format; ``BGR`` is what OpenCV has.
    """

    fd: int
    pixels: str = "BGR"

    @property
    def directory(self) -> None:
        """None: there are no files."""
        return

    def sink(self, codec: Codec, run: int) -> Sink:
        """The elements for one run; what is encoded is decoded with whatever decoder there is."""
        decode = () if codec == "raw" else (GstElement("decodebin"),)
        form = caps("video/x-raw", format=self.pixels)
        # Frames go as they come: their pace is the camera's, and a slow reader holds up the pipeline.
        write = GstElement("fdsink", {"fd": self.fd, "sync": False})
        chain = (
            *decode,
            GstElement("videoconvert"),
            form,
            GstElement("gdppay", {"crc-header": False}),
            write,
        )
        return Sink(chain, NO_FILES, pass_fds=(self.fd,))
