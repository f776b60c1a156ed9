"""Processes: stopped step by step, drained, fed, reaped, and never left behind."""

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccam.errors import RecordingError
from asynccam.recording.process import LaunchProcess, StopDeadlines, Tail
from tests.support.cancelling import cancelled_at
from tests.support.gst import freeze, gst_processes
from tests.support.waiting import eventually, outlasting

SHORT = StopDeadlines(interrupt=0.2, terminate=0.2, kill=5.0)


class Collected:
    """What a process printed."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, piece: bytes) -> None:
        self.data += piece


async def shell(
    script: str, printed: Collected | None = None, feed: Iterator[bytes] | None = None
) -> LaunchProcess:
    return await LaunchProcess.start(["sh", "-c", script], printed or Collected(), feed=feed)


async def ready(printed: Collected) -> None:
    await eventually(lambda: b"ready" in printed.data)


@pytest.mark.parametrize(
    ("ignored", "ends_by"),
    [("", signal.SIGINT), ("INT", signal.SIGTERM), ("INT TERM", signal.SIGKILL)],
)
async def test_stop_takes_next_step_when_ignored(ignored: str, ends_by: signal.Signals) -> None:
    printed = Collected()
    trap = f"trap '' {ignored}; " if ignored else ""
    process = await shell(f"{trap}echo ready; exec sleep 30", printed)
    await ready(printed)
    with outlasting(0.2 * len(ignored.split())):
        assert await process.stop(SHORT) == -ends_by
    assert not process.ended_by_itself


async def test_stop_kills_frozen_process() -> None:
    printed = Collected()
    process = await shell("trap : INT TERM; echo ready; while :; do sleep 1; done", printed)
    await ready(printed)
    freeze(process.pid)
    assert await process.stop(SHORT) == -signal.SIGKILL


async def test_stop_ends_whole_group(tmp_path: Path) -> None:
    printed = Collected()
    marker = tmp_path / "grandchild"
    process = await shell(f"sh -c 'sleep 30; : {marker}' & echo ready; wait", printed)
    await ready(printed)
    # The outer shell and the inner one; what the inner one forks is a third for a moment.
    await eventually(lambda: len(gst_processes(marker)) == 2)
    await process.stop(SHORT)
    await eventually(lambda: not gst_processes(marker))


async def test_ended_process_is_distinguished_from_a_stopped_one() -> None:
    process = await shell("exit 3")
    assert await process.wait() == 3
    assert await process.stop() == 3
    assert process.ended_by_itself
    assert await process.stop() == 3


async def test_output_is_drained_and_its_end_kept() -> None:
    printed = Collected()
    process = await shell(
        "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo last words >&2; echo done", printed
    )
    assert await process.wait() == 0
    await process.stop()
    assert printed.data == b"done\n"
    assert process.errors.endswith("xxx\nlast words") or process.errors.endswith("xlast words")
    assert len(process.errors) <= 16 * 1024
    assert process.output.startswith("done")


async def test_failing_output_callback_does_not_hide_the_end() -> None:
    told: list[object] = []
    pieces: list[int] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

    def fail(data: bytes) -> None:
        pieces.append(len(data))
        began = time.monotonic()
        while time.monotonic() - began < 0.01:
            pass  # more than a turn: what follows comes in turns of their own
        if len(pieces) > 1:
            raise ValueError(data[:1])

    process = await LaunchProcess.start([sys.executable, "-c", "print('x' * 4999)"], fail)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    await process.stop()
    assert sum(pieces) == 5000
    assert len(told) == len(pieces) - 1


def test_tail_keeps_the_end_of_any_pieces() -> None:
    data = bytes(range(65, 91)) * 8
    for size in (1, 3, 7, 50, 300):
        tail = Tail(limit=50)
        for at in range(0, len(data), size):
            tail.add(data[at : at + size])
        assert tail.text == data[-50:].decode()


async def test_feed_is_made_only_as_wanted() -> None:
    made = 0

    def chunks() -> Iterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield bytes(1000)

    printed = Collected()
    process = await shell("echo ready; exec sleep 30", printed, chunks())
    try:
        await ready(printed)
        # What the kernel and the transport hold until somebody reads, which nobody does.
        assert made < 400
    finally:
        await process.stop(SHORT)


async def test_feed_is_written_whole_and_input_closed() -> None:
    printed = Collected()
    process = await shell("wc -c", printed, iter([bytes(100_000)] * 7))
    assert await process.wait() == 0
    assert printed.data.strip() == b"700000"
    await process.stop()


async def test_process_closing_input_early_ends_feed() -> None:
    process = await shell("head -c 1000 | wc -c", feed=iter([bytes(1000)] * 1000))
    assert await process.wait() == 0
    await process.stop()


async def test_missing_program_is_an_error() -> None:
    with pytest.raises(RecordingError, match="cannot start /no/such/program"):
        await LaunchProcess.start(["/no/such/program"], Collected())


async def test_cancelled_at_any_await_no_process_is_left(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    argv = [sys.executable, "-c", "import time; time.sleep(30)", str(marker)]

    async def start_and_stop() -> None:
        process = await LaunchProcess.start(argv, Collected())
        await process.stop(SHORT)

    count = 0
    while await cancelled_at(start_and_stop(), count := count + 1):
        assert gst_processes(marker) == []
    assert count >= 3


async def test_cancelling_a_wait_leaves_the_process_alone() -> None:
    printed = Collected()
    process = await shell("echo ready; exec sleep 30", printed)
    await ready(printed)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.05)
    assert process.returncode is None
    assert await process.stop(SHORT) == -signal.SIGINT


@pytest.mark.parametrize("command", ["exec 0<&-; sleep 0.05", "exit 0", "head -c 1 >/dev/null"])
async def test_process_that_stops_reading_ends_endless_feed(command: str) -> None:
    """Chunks for a pipe that is closed go nowhere, and must not be made for ever."""
    process = await LaunchProcess.start(
        ["sh", "-c", command], lambda data: None, feed=itertools.repeat(b"x" * 1000)
    )
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    await process.stop()
