"""One ``gst-launch-1.0`` process: started in a session of its own, read, stopped and reaped.

The prefix of the command (`asynccam.recording.gstreamer.Installation.guard`) interrupts the process when the
thread that started it dies, so a recording is finished even when Python is killed. That thread is the event
loop's own: a loop that runs in a side thread ends its recorders when that thread ends.
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
from asynccam.runtime.tasks import finish, thread_errors

OutputCallback = Callable[[bytes], None]
"""Called with each piece of standard output as it is read."""

_LOG = logging.getLogger(__name__)

_TAIL_BYTES: Final = 16 * 1024
_FEED_BUFFER: Final = 16 * 1024
_SMALL_PIPE: Final = 4096
_SIGNALLED: Final = 128
_CHILDREN_TIMEOUT: Final = 0.1
_EXIT_TIMEOUT: Final = 1.0  # for a process that has closed its output to end


@dataclass(frozen=True, slots=True)
class StopDeadlines:
    """Seconds that each step of stopping a process may take.

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
"""For a process whose file is not needed."""


_CHUNK: Final = 1024  # bytes of output delivered at once: as many lines at most
_TURN_SECONDS: Final = 0.002  # seconds of work on output before everything else in the loop has its turn


class Tail:
    """Last bytes of a text stream, whatever its length."""

    def __init__(self, limit: int = _TAIL_BYTES) -> None:
        self._limit = limit
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Append; the oldest bytes are dropped beyond the limit."""
        self._data += data
        del self._data[: -self._limit]

    @property
    def text(self) -> str:
        """The kept bytes as text."""
        return clean_text(self._data.decode(errors="replace").strip())


class _Protocol(asyncio.SubprocessProtocol):
    """Pipes of a process: output is delivered as it arrives, the feed is written as it is read."""

    def __init__(self, on_output: OutputCallback, feed: Iterator[bytes] | None, *, armed: bool) -> None:
        self._on_output = on_output
        self._feed = feed
        self._input: asyncio.WriteTransport | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._paused = armed
        self._undelivered: deque[bytes] = deque()  # not yet given to `on_output`
        self._offset = 0  # in the first of these
        self._paused_output: asyncio.ReadTransport | None = None  # paused until that is done
        self._is_closed = False
        self.errors = Tail()
        self.output = Tail()
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        if self._feed is not None:
            self._input = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
            prompt = getattr(self._feed, "prompt", False)
            if prompt:
                _shrink_pipe(self._input)
            self._input.set_write_buffer_limits(high=0 if prompt else _FEED_BUFFER, low=0)
            self._write()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._write()

    def _write(self) -> None:
        while self._feed is not None and self._input is not None and not self._paused:
            if self._input.is_closing():  # the process reads no more, and a feed may be endless
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
            self._undelivered.append(data)
            if self._paused_output is None:
                self._deliver()
        else:
            self.errors.add(data)

    def _deliver(self) -> None:
        """Pass output to the callback for a bounded time; the rest waits for the next turn."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _TURN_SECONDS
        while self._undelivered:
            data, start = self._undelivered[0], self._offset
            self._offset = start + _CHUNK
            if self._offset >= len(data):
                self._undelivered.popleft()
                self._offset = 0
            try:
                self._on_output(data[start : start + _CHUNK])
            except Exception as error:  # noqa: BLE001 - a caller's code; the rest, and the end, are still delivered
                words = "a callback for a process's output failed"
                loop.call_exception_handler({"message": words, "exception": error})
            if self._undelivered and loop.time() >= until:
                self._pause_output()
                loop.call_soon(self._deliver)
                return
        reading, self._paused_output = self._paused_output, None
        if self._is_closed:
            self._set_exited()
        elif reading is not None and not reading.is_closing():
            reading.resume_reading()

    def _pause_output(self) -> None:
        if self._paused_output is None and self._transport is not None:
            pipe = cast("asyncio.ReadTransport", self._transport.get_pipe_transport(1))
            self._paused_output = pipe
            if not pipe.is_closing():
                pipe.pause_reading()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self._feed = None

    def connection_lost(self, exc: Exception | None) -> None:
        # The process is reaped and every pipe is read to its end.
        self._is_closed = True
        if self._paused_output is None:
            self._set_exited()

    def _set_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


class LaunchProcess:
    """A running process; its starter must `stop` it."""

    def __init__(
        self, transport: asyncio.SubprocessTransport, protocol: _Protocol, *, guarded: bool = False
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._guarded = guarded
        self._interrupted = False
        self.pid = transport.get_pid()  # of the started program; its group's and session's too
        self.ended_by_itself = False  # whether it had ended when it was to be stopped

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        on_output: OutputCallback,
        *,
        feed: Iterator[bytes] | None = None,
        armed: bool = False,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        guarded: bool = False,
    ) -> "LaunchProcess":
        """Start a process; cancelled at any point, none is left.

        Args:
            argv: Program and arguments.
            on_output: Called with its standard output.
            feed: Chunks for its standard input, made as they are read.
            armed: Whether the feed waits for `release`.
            environment: Variables on top of this process's own.
            pass_fds: Descriptors that the process inherits under their numbers.
            guarded: Whether ``argv`` begins with a guard that interrupts the process when Python dies.

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
                    lambda: _Protocol(on_output, feed, armed=armed),
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL if feed is None else asyncio.subprocess.PIPE,
                    start_new_session=True,
                    # A guarded process outlives Python and prints while it finishes its file, so SIGPIPE
                    # stays ignored. Any other process is to die of its next output.
                    restore_signals=not guarded,
                    env=variables,
                    pass_fds=pass_fds,
                )
            started.append(cls(transport, protocol, guarded=guarded))
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
        # A shell reports 128 and more for a command that a signal ended.
        return code if code is None or code <= _SIGNALLED else _SIGNALLED - code

    @property
    def exited(self) -> "asyncio.Future[None]":
        """Done when the process is reaped and all its output was delivered."""
        return self._protocol.exited

    @property
    def errors(self) -> str:
        """End of its standard error."""
        return self._protocol.errors.text

    @property
    def output(self) -> str:
        """End of its standard output, then of its standard error."""
        return f"{self._protocol.output.text}\n{self._protocol.errors.text}".strip()

    def release(self) -> None:
        """Begin to feed a process that was started armed."""
        self._protocol.resume_writing()

    async def wait(self) -> int:
        """Wait until it has ended and all its output was delivered; return its exit status."""
        await asyncio.shield(self._protocol.exited)
        code = self.returncode
        assert code is not None
        return code

    async def stop(self, deadlines: StopDeadlines = DEFAULT_DEADLINES) -> int:
        """Interrupt, then terminate, then kill, and reap; done to its end even when cancelled.

        However often this is called, and if Python dies meanwhile, the process is interrupted once. Returns
        the exit status, see `returncode`.

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
        watched = await _open_children(self.pid) if ask else []
        try:
            for step, seconds in steps:
                if not self._protocol.exited.done():
                    # The group: a plugin scanner that GStreamer started goes with it, also one that
                    # outlives it and holds its pipes.
                    with suppress(ProcessLookupError):
                        step()
                done, _ = await asyncio.wait({self._protocol.exited}, timeout=seconds)
                if done:
                    await _wait_children(watched)
                    return await self.wait()
        finally:
            _close_all(watched)
            self._transport.close()
        raise RecordingError(f"process {self.pid} outlived SIGKILL", output=self.output)

    def _interrupt(self) -> None:
        """Interrupt the process once.

        gst-launch-1.0 finishes its file at the first SIGINT and dies of the second. The kernel sends one
        when the guard dies, so a guarded process gets its only one from there: whether Python kills the
        guard here, or dies itself together with it, a guard dies once.
        """
        if self._interrupted:
            return
        self._interrupted = True
        _LOG.debug("process %d: interrupted", self.pid)
        if not self._guarded:
            os.killpg(self.pid, signal.SIGINT)
        elif self._transport.get_returncode() is None:
            os.kill(self.pid, signal.SIGKILL)


async def _open_children(pid: int) -> list[int]:
    """Return descriptors that become readable when the children of a process have ended.

    Returns none where the system has no such descriptors (Linux before 5.3) or does not answer in time.
    """
    asked = asyncio.get_running_loop().run_in_executor(None, _open_pidfds, pid)
    done, _ = await asyncio.wait({asked}, timeout=_CHILDREN_TIMEOUT)
    if not done:
        asked.add_done_callback(lambda late: _close_all(late.result()))
    return asked.result() if done else []


def _open_pidfds(pid: int) -> list[int]:
    opened: list[int] = []
    with suppress(OSError, AttributeError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        opened.extend(os.pidfd_open(int(child)) for child in children)
    return opened


async def _wait_children(watched: Sequence[int]) -> None:
    """Wait until processes that have closed their output have ended, and reap those that fell to this one.

    A process whose parent has died belongs to the first process of the system, or of the container. Where
    that is this one, no other process would reap it.
    """
    loop = asyncio.get_running_loop()
    for descriptor in watched:
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            async with asyncio.timeout(_EXIT_TIMEOUT):
                await ended.wait()
        except TimeoutError:
            continue
        finally:
            loop.remove_reader(descriptor)
        await asyncio.to_thread(_reap_child, descriptor)


def _reap_child(descriptor: int) -> None:
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _shrink_pipe(pipe: asyncio.WriteTransport) -> None:
    """Let as little as possible wait in a pipe, where the system allows that."""
    ours = pipe.get_extra_info("pipe")
    if ours is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # not a pipe, but a socket, with some event loops
            fcntl.fcntl(ours.fileno(), fcntl.F_SETPIPE_SZ, _SMALL_PIPE)
