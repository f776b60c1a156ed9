"""The watch over leftovers and blocking calls, watched itself."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError

import asynccam
from tests.support.leftovers import Holdings, left_behind, tasks_left_behind


def test_leftover_socket_until_closed() -> None:
    before = Holdings.now()
    with socket.socket() as held:
        assert left_behind(before, 0.0) == [f"descriptor {held.fileno()} ({_target(held.fileno())})"]
    assert left_behind(before, 0.0) == []


def test_leftover_descriptor_number_used_again() -> None:
    with socket.socket() as first:
        number = first.fileno()
        before = Holdings.now()
    with socket.socket() as second:
        assert second.fileno() == number
        assert len(left_behind(before, 0.0)) == 1


def test_leftover_thread_after_its_grace() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, args=(30,), name="straggler")
    before = Holdings.now()
    thread.start()
    try:
        assert left_behind(before, 0.0) == ["thread straggler"]
        threading.Timer(0.05, end.set).start()
        assert left_behind(before, 5.0) == []
    finally:
        end.set()
        thread.join()


def test_leftover_child_process_until_reaped() -> None:
    before = Holdings.now()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert any(f"process {child.pid}" in one for one in left_behind(before, 0.0))
        child.communicate(b"\n")
    assert left_behind(before, 0.0) == []


async def test_leftover_task_until_it_ends() -> None:
    before = asyncio.all_tasks()
    task = asyncio.create_task(asyncio.sleep(30), name="straggler")
    (words,) = await tasks_left_behind(before, 0.0)
    assert words.startswith("task straggler: <coroutine object sleep")
    task.cancel()
    assert await tasks_left_behind(before, 5.0) == []


async def test_asynccam_may_not_block_the_loop() -> None:
    nap = _function_in_asynccam("def nap():\n    import time\n    time.sleep(0.0)\n")
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        nap()
    await asyncio.to_thread(nap)


async def test_asynccam_may_not_touch_the_disk_on_the_loop(tmp_path: Path) -> None:
    look = _function_in_asynccam("def nap(path):\n    return path.exists()\n")
    with pytest.raises(BlockingError, match=r"os\.stat"):
        look(tmp_path)
    assert await asyncio.to_thread(look, tmp_path)


def test_without_a_loop_asynccam_may_block() -> None:
    _function_in_asynccam("def nap():\n    import time\n    time.sleep(0.0)\n")()


async def test_leftovers_allow_a_test_to_block() -> None:
    time.sleep(0.0)  # noqa: ASYNC251 - the point of this test


def _function_in_asynccam(source: str) -> Any:
    """A function ``nap`` that seems to come from a file of the package."""
    names: dict[str, Any] = {}
    exec(compile(source, str(Path(asynccam.__path__[0]) / "nap.py"), "exec"), names)
    return names["nap"]


def _target(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())
