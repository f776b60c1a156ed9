"""Print which cameras appear, move and leave the network, until Ctrl-C.

An IP address of this computer as an argument keeps to the network behind it:
``python examples/discover.py 192.168.1.5``.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress

from asynccam import CameraChanged, CameraFound, CameraLost, Session


async def main(interfaces: Sequence[str]) -> None:
    """Print cameras that appear, move and leave, without end."""
    async with Session(interfaces=list(interfaces) or None) as session:
        with session.events.stream(CameraFound, CameraChanged, CameraLost) as news:
            await session.discover(count=1)
            async for event in news:
                match event:
                    case CameraFound(info=info):
                        print(f"{info.id} is at {info.address}", flush=True)
                    case CameraChanged(info=info):
                        print(f"{info.id} is now at {info.address}", flush=True)
                    case CameraLost(camera=camera):
                        print(f"{camera} is lost", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:]))
