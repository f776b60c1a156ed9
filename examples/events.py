"""Run a take step by step, and print its events.

Run it with a camera's address: ``python examples/events.py multicam://192.168.1.20:8080``.
"""

import asyncio
import sys
from pathlib import Path

from asynccam import CameraFailed, Event, FileArrived, FileProgress, Session, TakePhaseChanged


def show(event: Event) -> None:
    """Print an event."""
    match event:
        case TakePhaseChanged(phase=phase):
            print(f"-- {phase}")
        case FileProgress(name=name, received=received, total=total):
            print(f"{name}: {received} of {total} bytes")
        case FileArrived(file=file):
            print(f"{file.path} downloaded, SHA-256 {file.sha256}")
        case CameraFailed(camera=camera, step=step, error=error):
            print(f"{camera} could not {step}: {error}")
        case _:
            print(event)


async def main(address: str, directory: Path = Path("takes"), duration: float = 5.0) -> bool:
    """Record with one camera; return whether the take is complete."""
    async with Session() as session:
        with session.subscribe(show):
            camera = await session.connect(address)
            async with session.new_take([camera], directory) as take:
                await take.arm()
                await take.start(start_in=1.0)
                await asyncio.sleep(duration)
                await take.stop()
                await take.collect()
    return take.ok


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(sys.argv[1])) else 1)
