"""Where streams go that are not kept on a disk: over the network, or to this process."""

import re
from dataclasses import dataclass
from typing import Final

from asynccam.errors import UsageError
from asynccam.recording.encoders import Codec
from asynccam.recording.gstlaunch import Chain, Element, Value, caps
from asynccam.recording.outputs import FileSet, Sink

NO_FILES: Final = FileSet(None, re.compile("(?!)"))
_PAYABLE: Final = ("h264", "h265", "vp8", "vp9")


@dataclass(frozen=True, slots=True)
class RtpOutput:
    """RTP over UDP to one receiver. See docs/protocols/nanocam.md.

    Attributes:
        host: The receiver.
        port: Its UDP port.
        payload: RTP payload type.
    """

    host: str
    port: int
    payload: int = 96

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
        send = Element("udpsink", {"host": self.host, "port": self.port})
        return Sink((*form, Element(f"rtp{codec}pay", pay), send), NO_FILES, byte_stream=True)


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
        decode = () if codec == "raw" else (Element("decodebin"),)
        form = caps("video/x-raw", format=self.pixels)
        # Frames go as they come: their pace is the camera's, and a slow reader holds up the pipeline.
        write = Element("fdsink", {"fd": self.fd, "sync": False})
        chain = (*decode, Element("videoconvert"), form, Element("gdppay", {"crc-header": False}), write)
        return Sink(chain, NO_FILES, pass_fds=(self.fd,))
