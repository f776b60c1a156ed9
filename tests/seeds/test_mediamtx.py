"""mediamtx-camera-sdk: every example of its README against our simulated service, of either generation."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asynccam.systems.mediamtx import MediaMTXSimulator
from tests.seeds.examples import Changes, Ran, blocks, run

BLOCKS = blocks("mediamtx")
IMPORTS = {"mediamtx_camera_sdk": "asynccam.systems.mediamtx"}


@pytest.fixture(params=[1, 2])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MediaMTXSimulator]:
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff\xd9")
    async with MediaMTXSimulator(
        generation=request.param,
        directory=tmp_path / "service",
        api_keys={"your_api_key_here": "admin"},
        picture=tmp_path / "picture",
        clip=tmp_path / "picture",
    ) as service:
        yield service


async def example(heading: str, service: MediaMTXSimulator, directory: Path, after: str = "") -> Ran:
    places = {'host="localhost"': 'host="127.0.0.1"', "port=8080": f"port={service.port}"}
    if '"your_jwt_token_here"' in BLOCKS[heading]:
        places['"your_jwt_token_here"'] = f'"{service.token("admin")}"'
    return await run(Changes(IMPORTS, places=places).to(BLOCKS[heading]) + after, directory)


async def test_basic_usage(service: MediaMTXSimulator, tmp_path: Path) -> None:
    ran = await example("Basic Usage", service, tmp_path)
    assert (ran.code, ran.err) == (0, "")
    found, saved = ran.out.splitlines()
    assert found == "Found 2 cameras"
    assert saved.startswith("Snapshot saved: ")


async def test_api_key_authentication(service: MediaMTXSimulator, tmp_path: Path) -> None:
    ran = await example("API Key Authentication", service, tmp_path, "await main()\nprint('left')")
    assert (ran.code, ran.out, ran.err) == (0, "left\n", "")


async def test_real_time_notifications(service: MediaMTXSimulator, tmp_path: Path) -> None:
    # The example runs until Ctrl-C, in a program that has imported asyncio.
    after = """
import asyncio

seen, say = asyncio.Event(), on_camera_status_update
async def on_camera_status_update(camera_info):
    await say(camera_info)
    seen.set()

watching = asyncio.ensure_future(main())
await seen.wait()
watching.cancel()
await asyncio.wait({watching})
print("left")
"""
    running = asyncio.create_task(example("Real-time Notifications", service, tmp_path, after))
    device = next(iter(service.cameras))
    while not running.done():
        if device in service.cameras:
            service.remove_camera(device)
        else:
            service.add_camera(device=device)
        await asyncio.wait({running}, timeout=0.2)
    ran = await running
    assert (ran.code, ran.err) == (0, "")
    first, *_, last = ran.out.splitlines()
    assert first.startswith(f"Camera {device} status: ")
    assert last == "left"


async def test_error_handling(service: MediaMTXSimulator, tmp_path: Path) -> None:
    ran = await example("Error Handling", service, tmp_path, "await main()")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Authentication failed: ")


async def test_same_with_nobody_there(tmp_path: Path) -> None:
    places = {'host="localhost"': 'host="127.0.0.1"', "port=8080": "port=9"}
    ran = await run(Changes(IMPORTS, places=places).to(BLOCKS["Error Handling"]) + "await main()", tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Connection failed: ")


async def test_configuration_and_signatures(tmp_path: Path) -> None:
    """The rest of the page are declarations: what they declare is there, with the same names and defaults."""
    declared = BLOCKS["Constructor"].replace("CameraClient(", "def maker(", 1).rstrip() + ": ...\n"
    source = "from dataclasses import dataclass\nfrom typing import List, Optional\n"
    source += "from asynccam.systems.mediamtx import CameraClient\nimport asynccam.systems.mediamtx as ours\n"
    source += BLOCKS["SSL/TLS Configuration"] + declared
    source += BLOCKS["CameraInfo"] + BLOCKS["RecordingInfo"] + _COMPARE
    ran = await run(source, tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "same\n"


_COMPARE = """
import dataclasses, inspect
client.endpoint
there, here = inspect.signature(maker).parameters, inspect.signature(CameraClient).parameters
assert list(there) == list(here)[: len(there)], (list(there), list(here))
for theirs in (CameraInfo, RecordingInfo):
    known = {"device_path": "/dev/video0", "name": "n", "capabilities": ["a"], "status": "S"}
    known |= {"recording_id": "r", "filename": "f", "start_time": 1.5}
    fields = dataclasses.fields(theirs)
    required = {field.name: known[field.name] for field in fields if field.default is dataclasses.MISSING}
    whole = {field.name: known.get(field.name, field.default) for field in fields}
    made = getattr(ours, theirs.__name__)
    for there, here in (
        (theirs(**required), made(**required)),
        (theirs(*required.values()), made(*required.values())),
        (theirs(**whole), made(**whole)),
        (theirs(*whole.values()), made(*whole.values())),
        (theirs(**whole), made.model_validate(whole)),
    ):
        for name, value in dataclasses.asdict(there).items():
            assert getattr(here, name) == value, (there, here, name)
print("same")
"""
