"""Pipelines: a source and an output, described without starting anything.

An armed start discards frames until it is released. ``gst-launch-1.0`` takes no commands while it runs, but
it reads its standard input. ``concat`` gives its second input only once the first has ended, and the first
is that standard input, of which only the end counts. Until then a leaky queue keeps the frames of the last
`BACKLOG` seconds and discards older ones. So a pipeline whose standard input ends `BACKLOG` seconds after a
moment begins with the first frame that arrived at that moment or after it.
"""

from dataclasses import dataclass
from typing import Final

from asynccam.errors import AsynccamError, StorageError
from asynccam.recording.elements import Chain, Codec, Graph, GstElement, PadOf, caps
from asynccam.recording.outputs import FileSet, RecorderOutput, Sink
from asynccam.recording.sources import Feed, Source, Stream

BACKLOG: Final = 0.3
"""Seconds of frames that wait; afterwards the queue may fall behind by as much before it loses one."""
SOURCE_COUNTER: Final = "source"
"""Name of the element that counts the frames before the gate."""
_GATE: Final = "gate"


def gate_chain(live: Chain) -> tuple[GstElement, tuple[Chain, ...]]:
    """Put a gate behind a chain of live elements, each of whose frames can be decoded without the others.

    Returns the element that the rest of the graph follows, and the chains that feed it.
    """
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
    # gdpdepay swallows fdsrc's segment in bytes, which concat could not join with frames.
    latch: Chain = (GstElement("fdsrc", {"fd": 0}), GstElement("gdpdepay"), PadOf(_GATE, "sink_0"))
    frames: Chain = (*live, _frame_counter(SOURCE_COUNTER), alone, wait, PadOf(_GATE, "sink_1"))
    return GstElement("concat", {"name": _GATE}), (latch, frames)


_WITH_LENGTHS: Final[dict[Codec, str]] = {"h264": "avc", "h265": "hvc1"}


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of a pipeline, ready to be started."""

    graph: Graph
    files: FileSet
    stream: Stream  # of the source; in ``graph`` there may be a gate behind it
    feed: Feed | None  # data for the standard input of the process, or None
    pass_fds: tuple[int, ...] = ()  # descriptors that it inherits
    armed: bool = False  # whether the first frame is held back until the process is released
    backlog: float = 0.0  # seconds of frames from before the release that are recorded


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Source and output of a recording.

    Attributes:
        source: Source of the frames, `TestPattern` for example.
        output: Destination of the frames, `SingleFile` for example.
    """

    source: Source
    output: RecorderOutput

    def plan(self, installed: frozenset[str], run: int = 0, *, held: bool = False) -> Plan:
        """Return one run's graph and files; reads the output's directory where numbering depends on it.

        Args:
            installed: Names of the installed elements.
            run: 0 for the first run, one more after each restart.
            held: Whether to arm it: its first frame is held back, if that is possible with this source.

        Raises:
            UsageError: The output cannot hold the source's codec.
            TargetExistsError: The output exists already.
            StorageError: The output's directory cannot be read.
        """
        stream = self.source.stream(installed)
        try:
            sink = self.output.sink(stream.codec, run)
        except AsynccamError:
            raise
        except OSError as error:
            raise StorageError(f"cannot record to {self.output.directory}: {error}") from error
        chain, others, feed, backlog = stream.chain, stream.others, stream.feed, 0.0
        if held and stream.live and feed is None:
            gate, feeding = gate_chain(chain[: stream.live])
            chain, others = (gate, *chain[stream.live :]), (*others, *feeding)
            feed, backlog = lambda: iter(()), BACKLOG  # only the end of the feed counts
        main = (
            *chain,
            GstElement("queue"),
            _frame_counter("counter"),
            *_after_counter(stream, sink),
            *sink.chain,
        )
        graph = Graph((main, *others, *sink.others), sink.inner)
        armed = held and feed is not None
        return Plan(graph, sink.files, stream, feed, sink.pass_fds, armed, backlog)


def _frame_counter(name: str) -> GstElement:
    """Return an element that counts the frames that pass, and reports them once a second.

    Unlike a branch with a sink of its own it costs nothing that can be measured.
    """
    return GstElement(
        "progressreport",
        {"name": name, "silent": True, "do-query": False, "format": "buffers", "update-freq": 1},
    )


def _after_counter(stream: Stream, sink: Sink) -> Chain:
    """Return the elements between the counter and the output."""
    if not stream.after_counter:
        return ()
    # They do not hand on which form of the stream the output wants. With start codes GStreamer's timestampers
    # give the second frame the time of the first, and so on, when frames arrive in shown order.
    kind = f"video/x-{stream.codec}"
    behind: Chain = (caps(kind, stream_format=_WITH_LENGTHS[stream.codec]), *stream.after_counter)
    if not sink.byte_stream:
        return behind
    parse = GstElement(f"{stream.codec}parse", {"config-interval": -1})
    return (*behind, parse, caps(kind, stream_format="byte-stream", alignment="au"))
