"""mDNS between processes on the loopback interface, which lacks the kernel's MULTICAST flag by default."""

import asyncio
import sys
from pathlib import Path

from asynccam.net.mdns import ServiceBrowser, ServiceFound, ServiceLost, announce
from tests.support.mdns_packets import LOOPBACK, unique_service_type

OTHER_PROCESS = """
import asyncio, sys
from asynccam.net.mdns import announce, ServiceBrowser

async def main(kind):
    async with (
        ServiceBrowser(kind, interfaces=["127.0.0.1"]) as browser,
        announce(kind, "other", 4321, interfaces=["127.0.0.1"]),
    ):
        async for event in browser:
            print(type(event).__name__, event.service.instance, event.service.port, flush=True)
            if event.service.instance == "this":
                return

asyncio.run(main(sys.argv[1]))
"""


async def test_two_processes_see_each_other_on_loopback() -> None:
    kind = unique_service_type()
    root = Path(__file__).parents[2]
    async with ServiceBrowser(kind, interfaces=LOOPBACK) as browser:
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OTHER_PROCESS, kind, cwd=root, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(30):
                event = await anext(browser)
                assert isinstance(event, ServiceFound)
                assert (event.service.instance, event.service.port) == ("other", 4321)
                assert event.service.addresses == ("127.0.0.1",)
                async with announce(kind, "this", 1234, interfaces=LOOPBACK):
                    output, _ = await other.communicate()
                    events = [await anext(browser), await anext(browser)]
        finally:
            if other.returncode is None:
                other.kill()
                await other.wait()
    assert "ServiceFound this 1234" in output.decode().splitlines()
    # Its goodbye, and the announcement of this process heard by itself, in whatever order.
    assert {(type(one), one.service.instance) for one in events} == {
        (ServiceFound, "this"),
        (ServiceLost, "other"),
    }
