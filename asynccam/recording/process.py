"""One ``gst-launch-1.0`` process: started in a session of its own, drained, stopped and reaped.

What is put before the command (`asynccam.recording.gstreamer.Installation.guard`) interrupts the
process when the thread that started it dies, so a recording is finished even when Python is killed.
That thread is the event loop's own: a loop that runs in a side thread takes its recorders along when
that thread ends.
"""

import asyncio
import fcntl
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from asynccam.errors import BusyError, RecordingError
from asynccam.outside import clean_text
from asynccam.redaction import loggable_command
from asynccam.runtime.tasks import finish
from asynccam.runtime.threads import thread_errors

OutputCallback = Callable[[bytes], None]
"""Given each piece of standard output as it is read."""

_LOG = logging.getLogger(__name__)

_TAIL_BYTES: Final = 16 * 1024
_FEED_AHEAD: Final = 16 * 1024
_SHORT_PIPE: Final = 4096
_SIGNALLED: Final = 128
_ASK_SECONDS: Final = 0.1
_ENDED_SECONDS: Final = 1.0
"""For a process that has closed its output to end."""


@dataclass(frozen=True, slots=True)
class StopDeadlines:
    """How patiently a process is stopped, in seconds.

    Attributes:
        interrupt: From SIGINT, upon which the muxer finishes its file.
        terminate: From SIGTERM.
        kill: From SIGKILL, which only a process stuck in the kernel outlives.
    """

    interrupt: float = 8.0
    terminate: float = 2.0
    kill: float = 5.0


DEFAULT_DEADLINES: Final = StopDeadlines()
NOTHING_TO_FINISH: Final = StopDeadlines(interrupt=0.5, terminate=0.5)
"""For a process whose file nobody waits for."""


_PIECE: Final = 1024
"""Bytes of output given on at once: as many lines at most."""
_TURN: Final = 0.002
"""Seconds of work on output before everything else in the loop has its turn."""


class Tail:
    """The last bytes of a text stream, whatever its length."""

    def __init__(self, limit: int = _TAIL_BYTES) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Append; the oldest pieces go when there is more than the limit."""
        data = data[-self._limit :]
        self._pieces.append(data)
        self._size += len(data)
        while self._size - len(self._pieces[0]) >= self._limit:
            self._size -= len(self._pieces.popleft())

    @property
    def text(self) -> str:
        """What is kept, readable."""
        return clean_text(b"".join(self._pieces)[-self._limit :].decode(errors="replace").strip())


class _Protocol(asyncio.SubprocessProtocol):
    """Takes output as it comes and feeds the standard input as it is wanted."""

    def __init__(self, on_output: OutputCallback, feed: Iterator[bytes] | None, *, held: bool) -> None:
        self._on_output = on_output
        self._feed = feed
        self._input: asyncio.WriteTransport | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._paused = held
        self._printed: deque[bytes] = deque()  # not yet given to `on_output`
        self._place = 0  # in the first of these
        self._reading: asyncio.ReadTransport | None = None  # paused until that is done
        self._over = False
        self.errors = Tail()
        self.output = Tail()
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        if self._feed is not None:
            pipe = cast("asyncio.SubprocessTransport", transport).get_pipe_transport(0)
            self._input = cast("asyncio.WriteTransport", pipe)
            prompt = getattr(self._feed, "prompt", False)
            if prompt:
                _shorten(self._input)
            self._input.set_write_buffer_limits(high=0 if prompt else _FEED_AHEAD, low=0)
            self._write()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._write()

    def _write(self) -> None:
        while self._feed is not None and self._input is not None and not self._paused:
            if self._input.is_closing():  # nobody reads any more, and a feed may be without end
                self._feed = None
                return
            chunk = next(self._feed, None)
            if chunk is None:
                self._feed = None
                self._input.close()
                return
            self._input.write(chunk)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self.output.add(data)
            self._printed.append(data)
            if self._reading is None:
                self._take()
        else:
            self.errors.add(data)

    def _take(self) -> None:
        """Pass on what was printed, for a bounded time; the rest waits for the next turn."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _TURN
        while self._printed:
            data, start = self._printed[0], self._place
            self._place = start + _PIECE
            if self._place >= len(data):
                self._printed.popleft()
                self._place = 0
            try:
                self._on_output(data[start : start + _PIECE])
            except Exception as error:  # noqa: BLE001 - anybody's code; the rest, and the end, are still told
                words = "a callback for a process's output failed"
                loop.call_exception_handler({"message": words, "exception": error})
            if self._printed and loop.time() >= until:
                self._hold()
                loop.call_soon(self._take)
                return
        reading, self._reading = self._reading, None
        if self._over:
            self._end()
        elif reading is not None and not reading.is_closing():
            reading.resume_reading()

    def _hold(self) -> None:
        if self._reading is None and self._transport is not None:
            pipe = cast("asyncio.ReadTransport", self._transport.get_pipe_transport(1))
            self._reading = pipe
            if not pipe.is_closing():
                pipe.pause_reading()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self._feed = None

    def connection_lost(self, exc: Exception | None) -> None:
        # The process is reaped and every pipe is read to its end.
        self._over = True
        if self._reading is None:
            self._end()

    def _end(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


class LaunchProcess:
    """A running process; whoever started it must `stop` it.

    Args:
        transport: The process.
        protocol: What takes its output.
        guarded: Whether the process is the guard of another one, which is interrupted when the guard dies.

    Attributes:
        pid: Process id of what was started, which is its group's and session's too.
        ended_by_itself: Whether it had ended when it was to be stopped.
    """

    def __init__(
        self, transport: asyncio.SubprocessTransport, protocol: _Protocol, *, guarded: bool = False
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._guarded = guarded
        self._interrupted = False
        self.pid = transport.get_pid()
        self.ended_by_itself = False

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        on_output: OutputCallback,
        *,
        feed: Iterator[bytes] | None = None,
        held: bool = False,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        outlives: bool = False,
    ) -> "LaunchProcess":
        """Start a process; cancelled at any point, none is left.

        Args:
            argv: Program and arguments.
            on_output: Given what the process prints.
            feed: Chunks for its standard input, made as they are wanted.
            held: Whether none is given before `release`.
            environment: Variables on top of this process's own.
            pass_fds: Descriptors that the process inherits under their numbers.
            outlives: Whether ``argv`` begins with a guard that interrupts the process when Python dies.

        Raises:
            RecordingError: The program cannot be started.
        """
        # The parser of messages knows them in English only.
        variables = {**os.environ, "LC_ALL": "C.UTF-8", "GST_DEBUG_NO_COLOR": "1", **(environment or {})}
        loop = asyncio.get_running_loop()
        started: list[LaunchProcess] = []

        async def spawn() -> None:
            with thread_errors():  # a process's end is waited for in a thread
                transport, protocol = await loop.subprocess_exec(
                    lambda: _Protocol(on_output, feed, held=held),
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL if feed is None else asyncio.subprocess.PIPE,
                    start_new_session=True,
                    # What Python ignores, SIGPIPE that is, stays ignored in what outlives it: it goes on
                    # printing while it finishes its file. Anything else dies of its next word.
                    restore_signals=not outlives,
                    env=variables,
                    pass_fds=pass_fds,
                )
            started.append(cls(transport, protocol, guarded=outlives))
            if _LOG.isEnabledFor(logging.DEBUG):
                _LOG.debug("process %d: %s", transport.get_pid(), loggable_command(argv))

        try:
            # To its end even when cancelled: asyncio, cancelled while it connects the pipes, may wait
            # for ever for a process that it has killed.
            await finish(spawn())
        except asyncio.CancelledError:
            for process in started:
                await process.stop(NOTHING_TO_FINISH)
            raise
        except (OSError, BusyError) as error:
            raise RecordingError(f"cannot start {argv[0]}: {error}") from error
        return started[0]

    @property
    def returncode(self) -> int | None:
        """Exit status, minus the signal's number if one ended it, or None while it runs.

        Of a guarded process that was stopped it is the guard's.
        """
        code = self._transport.get_returncode()
        # A shell in between says 128 and more for what was ended by a signal.
        return code if code is None or code <= _SIGNALLED else _SIGNALLED - code

    @property
    def exited(self) -> "asyncio.Future[None]":
        """Done when the process is reaped and everything it printed was taken."""
        return self._protocol.exited

    @property
    def errors(self) -> str:
        """The last of what it printed to standard error."""
        return self._protocol.errors.text

    @property
    def output(self) -> str:
        """The last of what it printed to standard output, then to standard error."""
        return f"{self._protocol.output.text}\n{self._protocol.errors.text}".strip()

    def release(self) -> None:
        """Begin to feed a process that was started held."""
        self._protocol.resume_writing()

    async def wait(self) -> int:
        """Wait until it has ended and everything it printed was taken; its exit status."""
        await asyncio.shield(self._protocol.exited)
        code = self.returncode
        assert code is not None
        return code

    async def stop(self, deadlines: StopDeadlines = DEFAULT_DEADLINES) -> int:
        """Interrupt, then terminate, then kill, and reap; done to its end even when cancelled.

        However often this is called, and if Python dies meanwhile, the process is interrupted once.

        Returns:
            The exit status, see `returncode`.

        Raises:
            RecordingError: The process outlived even SIGKILL.
        """
        return await finish(self._stop(deadlines))

    async def _stop(self, deadlines: StopDeadlines) -> int:
        steps = (
            (self._interrupt, deadlines.interrupt),
            (lambda: os.killpg(self.pid, signal.SIGTERM), deadlines.terminate),
            (lambda: os.killpg(self.pid, signal.SIGKILL), deadlines.kill),
        )
        self.ended_by_itself = self.ended_by_itself or (self.returncode is not None and not self._interrupted)
        ask = self._guarded and not self._protocol.exited.done()
        watched = await _watch_children(self.pid) if ask else []
        try:
            for step, seconds in steps:
                if not self._protocol.exited.done():
                    # The group: a plugin scanner that GStreamer started goes with it, also one that
                    # outlives it and holds its pipes.
                    with suppress(ProcessLookupError):
                        step()
                done, _ = await asyncio.wait({self._protocol.exited}, timeout=seconds)
                if done:
                    await _ended(watched)
                    return await self.wait()
        finally:
            _close(watched)
            self._transport.close()
        raise RecordingError(f"process {self.pid} outlived SIGKILL", output=self.output)

    def _interrupt(self) -> None:
        """Interrupt the process, unless that was done.

        gst-launch-1.0 finishes its file at the first SIGINT and dies of the second. The kernel sends one
        when the guard dies, so a guarded process gets its only one from there: whether Python kills the
        guard here, or dies itself and takes it along, a guard dies once.
        """
        if self._interrupted:
            return
        self._interrupted = True
        _LOG.debug("process %d: interrupted", self.pid)
        if not self._guarded:
            os.killpg(self.pid, signal.SIGINT)
        elif self._transport.get_returncode() is None:
            os.kill(self.pid, signal.SIGKILL)


async def _watch_children(pid: int) -> list[int]:
    """Descriptors that can be read once the children of a process of one thread have ended.

    Returns none where the system has no such descriptors (Linux before 5.3) or is too busy to tell in time.
    """
    asked = asyncio.get_running_loop().run_in_executor(None, _open_children, pid)
    done, _ = await asyncio.wait({asked}, timeout=_ASK_SECONDS)
    if not done:
        asked.add_done_callback(lambda late: _close(late.result()))
    return asked.result() if done else []


def _open_children(pid: int) -> list[int]:
    opened: list[int] = []
    with suppress(OSError, AttributeError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        opened.extend(os.pidfd_open(int(child)) for child in children)
    return opened


async def _ended(watched: Sequence[int]) -> None:
    """Wait until processes that have closed their output have ended, and reap those that fell to this one.

    A process whose parent has died belongs to the first process of the system, or of the container. Where
    that is this one, nobody else would reap it.
    """
    loop = asyncio.get_running_loop()
    for descriptor in watched:
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            async with asyncio.timeout(_ENDED_SECONDS):
                await ended.wait()
        except TimeoutError:
            continue
        finally:
            loop.remove_reader(descriptor)
        await asyncio.to_thread(_reap, descriptor)


def _reap(descriptor: int) -> None:
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _shorten(pipe: asyncio.WriteTransport) -> None:
    """Let as little as possible wait in a pipe, where the system has a say in that."""
    ours = pipe.get_extra_info("pipe")
    if ours is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # not a pipe, but a socket, with some event loops
            fcntl.fcntl(ours.fileno(), fcntl.F_SETPIPE_SZ, _SHORT_PIPE)
