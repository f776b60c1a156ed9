"""A start that is held back: everything runs, and frames are thrown away until they are wanted.

``gst-launch-1.0`` cannot be spoken to while it runs, but it reads its standard input. ``concat`` gives
its second input only once the first has ended, and the first is that standard input, of which only the
end counts. Until then a leaky queue keeps the frames of the last `BACKLOG` seconds and throws older ones
away. So a pipeline whose standard input ends `BACKLOG` seconds after a moment begins with the first frame
that came at that moment or after it.
"""

from typing import Final

from asynccam.recording.elements import Chain, GstElement, PadOf

BACKLOG: Final = 0.3
"""Seconds of frames that wait; afterwards the queue may fall behind by as much before it loses one."""
SOURCE: Final = "source"
"""The element that counts the frames before the gate."""
_GATE: Final = "gate"


def gated(live: Chain) -> tuple[GstElement, tuple[Chain, ...]]:
    """Put a gate behind a chain that gives frames by itself.

    Args:
        live: The chain; each of its frames can be understood without the others.

    Returns:
        What the rest of the graph follows, and the chains that feed it.
    """
    count = GstElement(
        "progressreport",
        {"name": SOURCE, "silent": True, "do-query": False, "format": "buffers", "update-freq": 1},
    )
    # An allocation query that waits in the queue would hold up the source.
    alone = GstElement("identity", {"drop-allocation": True})
    wait = GstElement(
        "queue",
        {
            "leaky": "downstream",
            "max-size-buffers": 0,
            "max-size-bytes": 0,
            "max-size-time": round(BACKLOG * 1e9),
        },
    )
    # gdpdepay swallows what fdsrc says of bytes, which concat could not join with frames.
    latch: Chain = (GstElement("fdsrc", {"fd": 0}), GstElement("gdpdepay"), PadOf(_GATE, "sink_0"))
    frames: Chain = (*live, count, alone, wait, PadOf(_GATE, "sink_1"))
    return GstElement("concat", {"name": _GATE}), (latch, frames)
