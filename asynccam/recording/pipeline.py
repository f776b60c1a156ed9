"""Pipelines: a source and an output, described without starting anything."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from asynccam.errors import AsynccamError, StorageError
from asynccam.recording.elements import Chain, Graph, GstElement, caps
from asynccam.recording.encoders import Codec
from asynccam.recording.hold import BACKLOG, gated
from asynccam.recording.outputs import FileSet, RecorderOutput, Sink
from asynccam.recording.sources import Feed, RtpInput, Source, Stream

_WITH_LENGTHS: Final[dict[Codec, str]] = {"h264": "avc", "h265": "hvc1"}


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of a pipeline, ready to be started.

    Attributes:
        graph: Its elements.
        files: The files it writes.
        feed: Data for the standard input of the process, or None.
        pass_fds: Descriptors that it inherits.
        held: Whether no frame comes to the output before the feed begins.
        backlog: Seconds of frames that came before that, and are recorded.
        latency: Seconds that the source holds every frame back.
        caution: What may be wrong with the files, or ``""``.
        filtered: Whether spoiled pictures are left out on the way, see `asynccam.recording.sources.Stream`.
        rtp: The UDP port that it receives at, or None.
    """

    graph: Graph
    files: FileSet
    feed: Feed | None
    pass_fds: tuple[int, ...] = ()
    held: bool = False
    backlog: float = 0.0
    latency: float = 0.0
    caution: str = ""
    filtered: bool = False
    rtp: RtpInput | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What is recorded, and where to.

    Attributes:
        source: Where frames come from, `TestPattern` for example.
        output: Where they go, `SingleFile` for example.
    """

    source: Source
    output: RecorderOutput

    def plan(self, installed: frozenset[str], run: int = 0, *, held: bool = False) -> Plan:
        """The graph of one run; reads the output's directory where numbering depends on it.

        Args:
            installed: Names of the elements there are.
            run: 0 for the first run, one more after each restart.
            held: Whether its first frame is to be held back, if that is possible with this source.

        Raises:
            UsageError: The output cannot hold what the source gives.
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
        # Counts every frame on its way to the muxer and says so once a second; unlike a branch
        # with a sink of its own it costs nothing that can be measured.
        counter = GstElement(
            "progressreport",
            {"name": "counter", "silent": True, "do-query": False, "format": "buffers", "update-freq": 1},
        )
        chain, others, feed, backlog = stream.chain, stream.others, stream.feed, 0.0
        if held and stream.live and feed is None:
            gate, feeding = gated(chain[: stream.live])
            chain, others = (gate, *chain[stream.live :]), (*others, *feeding)
            feed, backlog = _nothing, BACKLOG
        main = (*chain, GstElement("queue"), counter, *_behind(stream, sink), *sink.chain)
        graph = Graph((main, *others, *sink.others), sink.inner)
        holding = held and feed is not None
        return Plan(
            graph,
            sink.files,
            feed,
            sink.pass_fds,
            held=holding,
            backlog=backlog,
            latency=stream.latency,
            caution=stream.caution,
            filtered=stream.filtered,
            rtp=stream.rtp,
        )


def _behind(stream: Stream, sink: Sink) -> Chain:
    """The elements between the counter and the output."""
    if not stream.behind:
        return ()
    # They do not hand on which form of the stream the output wants. With start codes GStreamer's timestampers
    # give the second frame the time of the first, and so on, when frames come in the order they are shown in.
    kind = f"video/x-{stream.codec}"
    behind: Chain = (caps(kind, stream_format=_WITH_LENGTHS[stream.codec]), *stream.behind)
    if not sink.byte_stream:
        return behind
    parse = GstElement(f"{stream.codec}parse", {"config-interval": -1})
    return (*behind, parse, caps(kind, stream_format="byte-stream", alignment="au"))


def _nothing() -> Iterator[bytes]:
    """A feed that has only an end."""
    return iter(())
