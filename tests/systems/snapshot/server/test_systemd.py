"""systemd services: stopped once, and always restarted."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from asynccam.errors import DeviceError, StorageError, UsageError
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff
from asynccam.systems.snapshot.server.events import ServiceRestored, ServiceTrouble
from asynccam.systems.snapshot.server.systemd import SYSTEMCTL, Services
from tests.support.cancelling import cancelled_at
from tests.support.v4l2 import Devices
from tests.support.waiting import eventually

STOP, RESTART = ("stop", "a.service"), ("restart", "a.service")
QUICK = Backoff(initial=0.01, maximum=0.05)


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    return Devices(tmp_path)


@pytest_asyncio.fixture
async def events() -> AsyncIterator[EventHub]:
    hub = EventHub()
    yield hub
    await hub.aclose()


def made(tmp_path: Path, devices: Devices, **options: object) -> Services:
    options = {"command": [devices.systemctl], "backoff": QUICK, "timeout": 20.0, **options}
    return Services(tmp_path / "stopped.json", **options)  # type: ignore[arg-type]  # as the tests say


def journal(tmp_path: Path) -> list[str]:
    names: list[str] = json.loads((tmp_path / "stopped.json").read_text())["stopped"]
    return names


def test_services_run_the_documented_command() -> None:
    assert SYSTEMCTL == ("sudo", "systemctl")


async def test_services_stop_and_restart_with_journal(tmp_path: Path, devices: Devices) -> None:
    async with made(tmp_path, devices) as services:
        async with services.interrupted("a.service"):
            assert devices.calls == [STOP]
            assert devices.state("a.service") == "down"
            assert services.stopped == ("a.service",)
            assert journal(tmp_path) == ["a.service"]
        assert devices.calls == [STOP, RESTART]
        assert not services.stopped
        assert journal(tmp_path) == []
    assert devices.calls == [STOP, RESTART]


async def test_services_write_journal_before_stop(tmp_path: Path, devices: Devices) -> None:
    gate = tmp_path / "gate"
    devices.service("a.service", gate=str(gate))
    async with made(tmp_path, devices) as services:

        async def use() -> None:
            async with services.interrupted("a.service"):
                pass

        task = asyncio.create_task(use())
        await eventually(lambda: devices.calls == [STOP], 20)
        assert journal(tmp_path) == ["a.service"]
        assert devices.state("a.service") == "up"
        gate.touch()
        await task


async def test_services_stop_nothing_without_journal(tmp_path: Path, devices: Devices) -> None:
    services = Services(tmp_path / "no" / "stopped.json", command=[devices.systemctl])
    async with services:
        with pytest.raises(StorageError):
            async with services.interrupted("a.service"):
                raise AssertionError
        assert services.stopped == ()
    assert devices.calls == []


async def test_services_stop_once_for_overlapping_captures(tmp_path: Path, devices: Devices) -> None:
    async with made(tmp_path, devices) as services:
        inside = 0
        go = asyncio.Event()

        async def use() -> None:
            nonlocal inside
            async with services.interrupted("a.service"):
                inside += 1
                await go.wait()

        tasks = [asyncio.create_task(use()) for _ in range(10)]
        await eventually(lambda: inside == 10, 20)
        assert devices.calls == [STOP]
        go.set()
        await asyncio.gather(*tasks)
        assert devices.calls == [STOP, RESTART]


async def test_services_treat_suffix_as_the_same_unit(tmp_path: Path, devices: Devices) -> None:
    async with made(tmp_path, devices) as services:
        async with services.interrupted("a.service"):
            async with services.interrupted("a"):
                pass
            assert devices.calls == [STOP], "whoever still captures needs it stopped"
            async with services.all_interrupted(["a", "a.service", "a.timer"]) as refused:
                assert refused == {}
        assert sorted(devices.calls) == sorted([STOP, ("stop", "a.timer"), ("restart", "a.timer"), RESTART])


async def test_services_stop_several_despite_one_failure(tmp_path: Path, devices: Devices) -> None:
    devices.service("b.service", stop="fail")
    async with made(tmp_path, devices) as services:
        async with services.all_interrupted(["a.service", "b.service", "-c"]) as refused:
            assert set(refused) == {"b.service", "-c"}
            assert devices.state("a.service") == "down"
            assert "Unit b.service not loaded" in str(refused["b.service"])
        assert sorted(devices.calls) == sorted(
            [STOP, RESTART, ("stop", "b.service"), ("restart", "b.service")]
        )
        assert services.stopped == ()


async def test_services_accept_no_name(tmp_path: Path, devices: Devices) -> None:
    async with made(tmp_path, devices) as services, services.interrupted(""):
        pass
    assert devices.calls == []


@pytest.mark.parametrize("name", ["-h", "a b", "a;b", "*", "a/b", "ä.service", "a\0", "x" * 300])
async def test_services_refuse_invalid_name(tmp_path: Path, devices: Devices, name: str) -> None:
    async with made(tmp_path, devices) as services:
        with pytest.raises(UsageError):
            async with services.interrupted(name):
                raise AssertionError
    assert devices.calls == []


async def test_services_restart_after_failed_stop(tmp_path: Path, devices: Devices, events: EventHub) -> None:
    devices.service("a.service", stop="fail")
    async with made(tmp_path, devices, events=events) as services:
        with events.stream(ServiceTrouble) as told:
            with pytest.raises(DeviceError, match=r"a\.service cannot be stopped.*not loaded"):
                async with services.interrupted("a.service"):
                    raise AssertionError
            async with asyncio.timeout(20):
                assert "cannot be stopped" in (await anext(told)).error
        assert devices.calls == [STOP, RESTART]
        assert services.stopped == ()


async def test_services_name_a_missing_command(tmp_path: Path, devices: Devices) -> None:
    async with made(tmp_path, devices, command=["/none/sudo"]) as services:
        with pytest.raises(DeviceError, match="/none/sudo"):
            async with services.interrupted("a.service"):
                raise AssertionError
        assert services.stopped == ("a.service",), "nobody knows whether it runs"


async def test_services_give_up_a_hanging_stop(tmp_path: Path, devices: Devices) -> None:
    devices.service("a.service", stop="hang")
    async with made(tmp_path, devices, timeout=1.0) as services:
        with pytest.raises(DeviceError, match=r"no end of stop a\.service within 1 s"):
            async with services.interrupted("a.service"):
                raise AssertionError
    assert devices.calls[:2] == [STOP, RESTART]
    assert devices.state("a.service") == "up"


async def test_services_retry_failed_restart(tmp_path: Path, devices: Devices, events: EventHub) -> None:
    devices.service("a.service", restart="fail")
    async with made(tmp_path, devices, events=events) as services:
        with events.stream(ServiceTrouble, ServiceRestored) as told:
            async with services.interrupted("a.service"):
                pass
            assert journal(tmp_path) == ["a.service"]
            async with asyncio.timeout(20):
                assert isinstance(await anext(told), ServiceTrouble)
                assert isinstance(await anext(told), ServiceTrouble)
                devices.service("a.service")
                while not isinstance(await anext(told), ServiceRestored):
                    pass
        assert devices.state("a.service") == "up"
        assert journal(tmp_path) == []


async def test_services_restart_the_rest_when_closed(tmp_path: Path, devices: Devices) -> None:
    devices.service("a.service", restart="fail")
    async with made(tmp_path, devices, backoff=Backoff(initial=600, maximum=600)) as services:
        async with services.interrupted("a.service"):
            pass
        assert devices.calls == [STOP, RESTART]
        devices.service("a.service")
    assert devices.calls == [STOP, RESTART, RESTART]
    assert devices.state("a.service") == "up"
    assert journal(tmp_path) == []


async def test_services_restart_at_next_start(tmp_path: Path, devices: Devices, events: EventHub) -> None:
    devices.service("a.service", restart="fail")
    async with made(tmp_path, devices) as services, services.interrupted("a.service"):
        pass
    assert journal(tmp_path) == ["a.service"]
    devices.service("a.service")
    with events.stream(ServiceRestored) as told:
        async with made(tmp_path, devices, events=events) as services:
            async with asyncio.timeout(20):
                await anext(told)
            assert services.stopped == ()
    assert devices.state("a.service") == "up"


async def test_services_stop_again_right_after_a_crash(tmp_path: Path, devices: Devices) -> None:
    """The killed server may have been killed before its stop: the journal alone stops nothing."""
    (tmp_path / "stopped.json").write_text('{"stopped": ["a.service"]}')
    async with made(tmp_path, devices) as services, services.interrupted("a.service"):
        assert devices.state("a.service") == "down"
    assert devices.state("a.service") == "up"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stopped": 7}', '{"stopped": ["--all"]}', "\udcff"])
async def test_services_ignore_invalid_journal(tmp_path: Path, devices: Devices, content: str) -> None:
    (tmp_path / "stopped.json").write_bytes(content.encode(errors="surrogateescape"))
    async with made(tmp_path, devices) as services, services.interrupted("a.service"):
        pass
    assert devices.calls == [STOP, RESTART]


async def test_services_run_after_any_cancellation(tmp_path: Path, devices: Devices) -> None:
    async with made(tmp_path, devices) as services:

        async def once() -> None:
            async with services.interrupted("a.service"):
                await asyncio.sleep(0)

        async def several() -> None:
            async with services.all_interrupted(["a.service", "b.service"]):
                await asyncio.sleep(0)

        for job in (once, several):
            count = 1
            while await cancelled_at(job(), count):
                assert (devices.state("a.service"), devices.state("b.service")) == ("up", "up")
                assert services.stopped == ()
                assert journal(tmp_path) == []
                count += 1
            assert count > 3
    stops = [name for action, name in devices.calls if action == "stop"]
    restarts = [name for action, name in devices.calls if action == "restart"]
    assert stops == restarts or sorted(stops) == sorted(restarts)


CRASHING = """
import asyncio, sys
from pathlib import Path
from asynccam.systems.snapshot.server.systemd import Services

async def main():
    async with Services(Path(sys.argv[1]), command=[sys.argv[2]]) as services:
        async with services.interrupted("a.service"):
            print("stopped", flush=True)
            await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_services_recover_from_a_killed_server(
    tmp_path: Path, devices: Devices, events: EventHub
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CRASHING,
        str(tmp_path / "stopped.json"),
        devices.systemctl,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(40):
            assert await process.stdout.readline() == b"stopped\n"
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
    assert devices.state("a.service") == "down"
    assert journal(tmp_path) == ["a.service"]
    with events.stream(ServiceRestored) as told:
        async with made(tmp_path, devices, events=events), asyncio.timeout(20):
            assert (await anext(told)).service == "a.service"
    assert devices.calls == [STOP, RESTART]
    assert devices.state("a.service") == "up"
    assert journal(tmp_path) == []


def test_services_check_their_arguments(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Services(tmp_path / "x", command=[])
    with pytest.raises(UsageError):
        Services(tmp_path / "x", timeout=0)
