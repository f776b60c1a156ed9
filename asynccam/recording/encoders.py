"""Encoders of this computer's own processor, and what they are told so that they keep up."""

from fractions import Fraction
from typing import Final, Literal

from asynccam.errors import UsageError
from asynccam.recording.elements import Chain, GstElement, Value, caps

Codec = Literal["h264", "h265", "vp8", "vp9", "jpeg", "raw"]
"""What a stream is; ``raw`` for frames that are not encoded."""

ENCODERS: Final = ("x264enc", "openh264enc")
"""H.264 encoders by preference; one of them must be installed for raw pictures."""


def encode(
    codec: Codec, encoder: str | None, installed: frozenset[str], bitrate: int, fps: Fraction | None
) -> Chain:
    """From raw frames to an encoded and parsed stream, with a key frame about every second.

    Args:
        codec: What to encode to.
        encoder: One of `ENCODERS` for H.264, or None for the best that is installed.
        installed: Names of the elements there are.
        bitrate: kbit/s; Motion JPEG takes what it needs.
        fps: Frames a second, if that is known.

    Raises:
        UsageError: There is no such encoder.
    """
    keyframes = round(fps) if fps and fps >= 1 else 30
    if codec == "jpeg":
        return (GstElement("videoconvert"), GstElement("jpegenc"), GstElement("jpegparse"))
    if codec in ("vp8", "vp9"):
        # The quickest there is: the camera does not wait.
        quick: dict[str, Value] = {"deadline": 1, "cpu-used": 8, "keyframe-max-dist": keyframes}
        return (
            GstElement("videoconvert"),
            GstElement(f"{codec}enc", {"target-bitrate": bitrate * 1000, **quick}),
        )
    planes = (GstElement("videoconvert"), caps("video/x-raw", format="I420"))
    if codec == "h265":
        live: dict[str, Value] = {"tune": "zerolatency", "speed-preset": "ultrafast"}
        element = GstElement("x265enc", {"bitrate": bitrate, **live, "key-int-max": keyframes})
        return (*planes, element, GstElement("h265parse"))
    name = encoder or next((one for one in ENCODERS if one in installed), ENCODERS[0])
    if codec == "h264" and name == "x264enc":
        element = GstElement(
            name,
            {
                "bitrate": bitrate,
                "tune": "zerolatency",
                "speed-preset": "ultrafast",
                "key-int-max": keyframes,
                "threads": 1,
            },
        )
    elif codec == "h264" and name == "openh264enc":
        element = GstElement(name, {"bitrate": bitrate * 1000, "complexity": "low", "gop-size": keyframes})
    else:
        raise UsageError(f"no known {codec} encoder: {name!r}; known are {', '.join(ENCODERS)} for H.264")
    return (*planes, element, GstElement("h264parse"))
