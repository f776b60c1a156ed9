"""A service killed fifty times under load: no caller is lost, nothing comes twice, nothing is left."""

import asyncio
import itertools
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asynccam.errors import AsynccamError, ConnectionError, TimeoutError
from asynccam.net.jsonrpc import JsonRpcClient, JsonRpcConnection, RpcError
from asynccam.net.reconnecting import ConnectionState
from asynccam.runtime.retry import Backoff
from asynccam.systems.mediamtx import CameraClient
from asynccam.systems.mediamtx.models import CameraInfo
from tests.support.leftovers import Holdings
from tests.support.mediamtx_process import SECRET, Processes, processes
from tests.support.mediamtx_service import token
from tests.support.waiting import eventually, eventually_awaited, listens

RESTARTS = 50
READ_SECONDS = 10.0
CHANGE_SECONDS = 2.0
BACK_WITHIN = 10.0
NOISE = 5.0
"""Seconds this computer may be late when it is busy."""
DEVICES = {1: "/dev/video0", 2: "camera0"}


@dataclass
class Tally:
    """What became of the calls and notifications of one client.

    Attributes:
        outcomes: How calls ended.
        numbers: Boot and number of each notification, in order.
        unsent: Pictures whose call certainly was not carried out.
        taken: Pictures whose call was answered.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    numbers: list[tuple[int, int]] = field(default_factory=list)
    unsent: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)

    async def settle(self, kind: str, seconds: float, call: Awaitable[object]) -> AsynccamError | None:
        """Wait for the end of a call, which must come by its deadline, and count how it ended."""
        async with asyncio.timeout(seconds + NOISE):
            try:
                await call
                error = None
            except AsynccamError as raised:
                error = raised
        how = "answered" if error is None else type(error).__name__
        self.outcomes[f"{kind} {'maybe done' if getattr(error, 'maybe_executed', False) else how}"] += 1
        return error


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def sockets() -> int:
    return sum(target.startswith("socket:") for target in Holdings.now().descriptors.values())


# -- the load -----------------------------------------------------------------------------------------


async def read_on(tally: Tally, read: Callable[[], Awaitable[object]]) -> None:
    """Reads wait out a loss: each must be answered."""
    while True:
        error = await tally.settle("read", READ_SECONDS, read())
        assert error is None, f"a read that waits out a loss ended with {error!r}"
        await asyncio.sleep(0.002)  # or the callers would leave no time to the services


async def change_on(tally: Tally, client: CameraClient, names: Iterator[int]) -> None:
    """Pictures, each of a name of its own: never sent twice, and honest about what may have happened."""
    while True:
        name = f"{next(names)}.jpg"
        device = DEVICES[client.generation]
        call = client.take_snapshot(device, name, timeout=CHANGE_SECONDS)
        error = await tally.settle("change", CHANGE_SECONDS, call)
        if error is None:
            tally.taken.add(name)
        elif not getattr(error, "maybe_executed", False):
            tally.unsent.add(name)
        await asyncio.sleep(0.01)


async def post_on(tally: Tally, client: JsonRpcClient) -> None:
    """Calls that change something, on the layer below."""
    while True:
        call = client.call(
            "set_retention_policy",
            {"policy_type": "manual", "enabled": False, "auth_token": my_token()},
            timeout=CHANGE_SECONDS,
        )
        error = await tally.settle("change", CHANGE_SECONDS, call)
        assert isinstance(error, (ConnectionError, TimeoutError, type(None))), error
        await asyncio.sleep(0.01)


def my_token() -> str:
    return token(secret=SECRET)


def rpc_client(url: str, tally: Tally, links: list[JsonRpcConnection]) -> JsonRpcClient:
    """A bare JSON-RPC client that signs in and subscribes by itself."""

    async def sign_in(link: JsonRpcConnection, gap: float | None) -> None:
        links.append(link)
        await link.call("authenticate", {"auth_token": my_token()})
        with suppress(RpcError):  # generation 1 has no subscriptions, and notifies everybody
            await link.call("subscribe_events", {"topics": ["camera.status_change"]})

    def noticed(method: str, params: Any) -> None:
        if "boot" in params:
            tally.numbers.append((params["boot"], params["number"]))

    backoff = Backoff(initial=0.02, maximum=0.2, immediate=True)
    return JsonRpcClient(url, authenticate=sign_in, on_notification=noticed, backoff=backoff)


def camera_client(port: int, tally: Tally) -> CameraClient:
    client = CameraClient(
        "127.0.0.1", port, auth_token=my_token(), retry_delay=0.02, max_retry_delay=0.2, max_retries=20
    )

    def told(info: CameraInfo) -> None:
        extra = info.model_extra or {}
        tally.numbers.append((extra["boot"], extra["number"]))

    client.on_camera_status_update = told
    return client


@asynccontextmanager
async def under_load(
    cameras: CameraClient, upper: Tally, rpc: JsonRpcClient, lower: Tally
) -> AsyncIterator[None]:
    """Both clients call without a pause; what a caller finds wrong ends the block."""
    secret = {"auth_token": my_token()}

    async def read_low() -> object:
        return await rpc.call("get_camera_list", secret, timeout=READ_SECONDS, repeat=True)

    names = itertools.count()
    callers = [change_on(upper, cameras, names) for _ in range(2)]
    callers += [post_on(lower, rpc) for _ in range(2)]
    callers += [read_on(upper, cameras.get_camera_list) for _ in range(3)]
    callers += [read_on(lower, read_low) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller) for caller in callers]
        yield
        for task in tasks:
            task.cancel()


async def kill_and_return(service: Processes, generation: int, seconds: float) -> None:
    """Kill the service, start another after so many seconds, and wait until it listens."""
    service.kill()
    await asyncio.sleep(seconds)
    await service.start(generation)
    await eventually_awaited(lambda: listens(service.port))


async def seen_again(tally: Tally, client: CameraClient | JsonRpcClient, boot: int) -> None:
    """Wait until a client has a notification of this service and is ready."""
    await eventually(
        lambda: tally.numbers[-1][0] == boot and client.state is ConnectionState.READY,
        timeout=BACK_WITHIN,
        what=f"service {boot} in use again",
    )


@pytest.mark.timeout(180)
async def test_fifty_kills_under_load(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\xff\xd8 a picture \xff\xd9")
    port, rng = free_port(), random.Random(7)
    upper, lower = Tally(), Tally()
    links: list[JsonRpcConnection] = []
    back = 0
    async with processes(port, tmp_path) as service:
        await service.start(2)
        await eventually_awaited(lambda: listens(port))
        rpc = rpc_client(f"ws://127.0.0.1:{port}/ws", lower, links)
        cameras = camera_client(port, upper)
        try:
            await rpc.start(attempts=20)
            await cameras.connect()
            held = sockets()
            async with under_load(cameras, upper, rpc, lower):
                for restart in range(RESTARTS):
                    await asyncio.sleep(rng.uniform(0.02, 0.15))
                    pause = rng.uniform(0.2, 0.5) if restart % 10 == 0 else 0.0
                    await kill_and_return(service, 1 + restart % 2, pause)
                    if restart % 7 == 6:  # this one does not live to see everybody return
                        continue
                    await seen_again(upper, cameras, service.boot)
                    await seen_again(lower, rpc, service.boot)
                    back += 2
                await eventually(lambda: sockets() == held, what="as many sockets as at first")
            assert [link.pending for link in links] == [0] * len(links)
            assert not any(link.codec.pending for link in links)
            assert cameras.calls_under_way == 0
            assert cameras.events.dropped == cameras.events.failures == 0
        finally:
            await cameras.disconnect()
            await rpc.aclose()
    check(upper, lower, tmp_path / "service" / "snapshots")
    assert back > RESTARTS


def check(upper: Tally, lower: Tally, pictures: Path) -> None:
    """Return what must hold for all that happened."""
    for tally in (upper, lower):
        assert tally.outcomes["read answered"] > 10 * RESTARTS
        assert tally.outcomes["change answered"] > RESTARTS
        assert tally.outcomes["change maybe done"] > RESTARTS / 5  # or the kills hit nothing
        boots = [list(group) for _, group in itertools.groupby(tally.numbers, key=lambda one: one[0])]
        assert len(boots) > RESTARTS / 2
        for numbers in boots:
            assert numbers == sorted(set(numbers)), "a notification came twice, or out of order"
        assert len({numbers[0][0] for numbers in boots}) == len(boots)
    on_disk = {path.name for path in pictures.iterdir()}
    assert upper.taken <= on_disk
    assert not upper.unsent & on_disk, "what was said not to have been carried out was"
