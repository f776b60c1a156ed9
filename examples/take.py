"""Record with several cameras and download their files.

Run it with the cameras' addresses, ``python examples/take.py multicam://192.168.1.20:8080 ...``,
or with none to record every camera that answers on the network.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from asynccam import Session, Take


async def main(addresses: Sequence[str], directory: Path = Path("takes"), duration: float = 5.0) -> Take:
    """Record with the cameras at the addresses, or with all that are found."""
    async with Session() as session:
        cameras = await session.connect_all(addresses) if addresses else await session.discover()
        take = await session.take(cameras, duration=duration, directory=directory)
    for camera in take.manifest.cameras:
        for file in camera.files:
            print(f"{camera.name}: {file.path}, {file.size} bytes")
        for error in camera.errors:
            print(f"{camera.name}: {error.message}")
    print(f"{take.manifest.outcome}: {take.directory / 'manifest.json'}")
    return take


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
