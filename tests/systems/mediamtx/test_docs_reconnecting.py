"""docs/reconnecting.md says what the code does: its table is the code's, and its examples run."""

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import DeviceError
from asynccam.net.reconnecting import TRANSITIONS, ConnectionState
from asynccam.net.websocket import MAX_MESSAGE
from asynccam.systems.mediamtx import CameraBusyError, CameraClient
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator
from tests.support.mediamtx_service import simulator, token
from tests.support.waiting import eventually

PAGE = (Path(__file__).parents[3] / "docs" / "reconnecting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PICTURE = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)[0]


def example(name: str) -> Any:
    (source,) = [block for block in BLOCKS if f"async def {name}(" in block]
    names: dict[str, Any] = {}
    exec(compile(ast.parse(source), "docs/reconnecting.md", "exec"), names)
    return names[name]


def client_of(service: MediaMTXSimulator) -> CameraClient:
    return CameraClient("127.0.0.1", service.port, auth_token=token(), retry_delay=0.01, max_retry_delay=0.1)


def test_docs_state_table_matches_code() -> None:
    rows = re.findall(r"^\| `([a-z ]+)` \| .+ \| (.+) \|$", PAGE, re.MULTILINE)
    told = {state: frozenset(re.findall(r"`([a-z ]+)`", nexts)) for state, nexts in rows}
    coded = {state.value: frozenset(one.value for one in nexts) for state, nexts in TRANSITIONS.items()}
    assert told == coded


def test_docs_diagram_has_every_state_once() -> None:
    for state in ConnectionState:
        assert len(re.findall(rf"\b{state.value}\b", PICTURE)) == 1, state
    assert PICTURE.index("closed") < PICTURE.index("connecting")


def test_numbers_on_the_page_are_the_codes() -> None:
    assert f"{MAX_MESSAGE // 1024**2} MiB" in PAGE


def test_docs_examples_are_all_run() -> None:
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("generation", [1, 2])
async def test_start_that_may_be_executed_is_made_once(generation: int, tmp_path: Path) -> None:
    start_once = example("start_once")
    async with simulator(generation, directory=tmp_path) as service, client_of(service) as client:
        device = next(iter(service.cameras))
        service.faults.cut_answers = frozenset({"start_recording"})
        await start_once(client, device)  # lost, then refused: so it was carried out
        assert service.cameras[device].recording is not None
        service.faults.cut_answers = frozenset()
        with pytest.raises(CameraBusyError) as refused:
            await start_once(client, device)
        assert not isinstance(refused.value, DeviceError)
        await client.stop_recording(device)
        await start_once(client, device)
        assert service.cameras[device].recording is not None


async def test_lost_connection_emits_missed_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = example("watch")
    printed = ""

    def told() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return "changed:" in printed

    async with simulator(2, directory=tmp_path) as service, client_of(service) as client:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch(client))
            await asyncio.sleep(0)
            await service.restart(cameras=1)
            await eventually(told)
            watcher.cancel()
        assert f"s without mediamtx://127.0.0.1:{service.port}" in printed
        assert f"vanished: ('mediamtx://127.0.0.1:{service.port}/camera1',)" in printed
