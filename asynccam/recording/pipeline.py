"""Pipelines: a source and an output, described without starting anything."""

from dataclasses import dataclass

from asynccam.errors import AsynccamError, StorageError
from asynccam.recording.gstlaunch import Element, Graph
from asynccam.recording.outputs import FileSet, Output
from asynccam.recording.sources import Feed, Source


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of a pipeline, ready to be started.

    Attributes:
        graph: Its elements.
        files: The files it writes.
        feed: Data for the standard input of the process, or None.
        pass_fds: Descriptors that it inherits.
    """

    graph: Graph
    files: FileSet
    feed: Feed | None
    pass_fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What is recorded, and where to.

    Attributes:
        source: Where frames come from, `TestPattern` for example.
        output: Where they go, `SingleFile` for example.
    """

    source: Source
    output: Output

    def plan(self, installed: frozenset[str], run: int = 0) -> Plan:
        """The graph of one run; reads the output's directory where numbering depends on it.

        Args:
            installed: Names of the elements there are.
            run: 0 for the first run, one more after each restart.

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
        counter = Element(
            "progressreport",
            {"name": "counter", "silent": True, "do-query": False, "format": "buffers", "update-freq": 1},
        )
        main = (*stream.chain, Element("queue"), counter, *sink.chain)
        return Plan(Graph((main, *stream.others), sink.inner), sink.files, stream.feed, sink.pass_fds)
