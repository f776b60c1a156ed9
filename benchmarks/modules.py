"""Counts of the code that a reader follows: lines, files, and the modules that an operation touches.

Run as ``python -m benchmarks.modules``. Four operations run against real servers, while a profiler notes each
module of ``asynccam`` that a function is called in: a take over a MultiCam camera, a JSON-RPC call of a
MediaMTX client, a MultiCam download, and a ``POST`` of a picture to the Snapshot server. Everything is
connected and imported before the count begins.
"""

import argparse
import ast
import asyncio
import json
import os
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import asynccam
from asynccam import CameraClient, MultiCamClient, Session
from asynccam.systems.snapshot.server import serve

PACKAGE = Path(asynccam.__file__).parent


@contextmanager
def touched() -> Iterator[set[str]]:
    """Gather the modules of the package in which a function begins, in every thread."""
    found: set[str] = set()
    prefix = str(PACKAGE) + os.sep

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(prefix) and code.co_name != "<module>":
            found.add(code.co_filename.removeprefix(prefix))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@asynccontextmanager
async def server(*arguments: str) -> AsyncIterator[dict[str, Any]]:
    """Start ``asynccam ARGUMENTS`` and yield the JSON object that it prints when it listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "asynccam", *arguments, "--json", "--while-stdin-open"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(30):
            yield json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def clients(directory: Path) -> dict[str, set[str]]:
    """Run the operations of clients, twice each: the first imports and connects, the second is counted."""
    results = {}
    multicam = ("serve", "multicam", "--host", "127.0.0.1", "--port", "0", "--no-announce")
    async with (
        server(*multicam, "--directory", str(directory / "device")) as device,
        server("simulate", "mediamtx", "--port", "0", "--http-port", "0") as service,
        Session() as session,
    ):
        camera = await session.connect(f"multicam://127.0.0.1:{device['port']}")
        await session.take([camera], duration=0.5, start_in=1.0, directory=directory)
        with touched() as results["session.take over a MultiCam camera"]:
            await session.take([camera], duration=0.5, start_in=1.0, directory=directory)
        async with MultiCamClient("127.0.0.1", device["port"]) as client:
            name = (await client.list_files()).files[0].fileName
            await client.download(name, directory / "first")
            with touched() as results["a MultiCam download"]:
                await client.download(name, directory / "second")
        port = int(service["address"].rpartition(":")[2])
        async with CameraClient("127.0.0.1", port, auth_token=service["token"]) as rpc:
            await rpc.ping()
            with touched() as results["a JSON-RPC call (MediaMTX)"]:
                await rpc.ping()
    return results


async def post_of_a_picture(directory: Path) -> set[str]:
    """Serve a camera with a test picture in this process, and count while the second one is posted for."""
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(
        serve(
            directory / "config.json",
            directory=directory,
            port=0,
            test_cameras=1,
            on_ready=lambda web: ready.set_result(web.port),
        )
    )
    try:
        async with asyncio.timeout(30):
            base = f"http://127.0.0.1:{await ready}/api/v1/cameras"
            listed = await asyncio.to_thread(_http, base)
            url = f"{base}/{listed['cameras'][0]['name']}/captures"
            await asyncio.to_thread(_http, url, b"{}")
            with touched() as found:
                await asyncio.to_thread(_http, url, b"{}")
            return found
    finally:
        serving.cancel()
        await asyncio.wait({serving})


def _http(url: str, body: bytes | None = None) -> Any:
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        return json.load(answer)


def classes_used_twice() -> list[str]:
    """Return the names of classes that more than one module of the package defines."""
    names = Counter(
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    return sorted(name for name, count in names.items() if count > 1)


def main() -> None:
    """Print every count, one a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="name the modules too")
    arguments = parser.parse_args()
    files = list(PACKAGE.rglob("*.py"))
    lines = sum(len(path.read_text().splitlines()) for path in files)
    print(f"{lines:6,d} lines of asynccam/ in {len(files)} files")
    twice = classes_used_twice()
    print(f"{len(twice):6d} names of classes used twice: {', '.join(twice) or 'none'}")
    with tempfile.TemporaryDirectory() as directory:
        results = asyncio.run(clients(Path(directory)))
    with tempfile.TemporaryDirectory() as directory:
        results["POST of a picture (Snapshot server)"] = asyncio.run(post_of_a_picture(Path(directory)))
    for name, modules in results.items():
        print(f"{len(modules):6d} modules: {name}")
        if arguments.list:
            print("".join(f"           {module}\n" for module in sorted(modules)), end="")


if __name__ == "__main__":
    main()
