"""A lab script: one take at each trigger time, and a table of the times of each camera.

``python examples/lab.py fleet.toml triggers.txt`` where each line of ``triggers.txt`` is the Unix time of a
trigger. The table ``takes/triggers.csv`` has for each camera when it was commanded and when it
accepted, in milliseconds after the trigger, and how its clock stood to this computer's.
"""

import asyncio
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from asynccam import Manifest, Session

COLUMNS = ("trigger", "take", "camera", "commanded_ms", "accepted_ms", "clock_offset_ms", "clock_bound_ms")


async def take_at(session: Session, trigger: float, seconds: float, directory: Path) -> Manifest:
    """Record a take whose T0 is the trigger; cameras are armed before."""
    async with session.new_take(directory=directory) as take:
        await take.arm()
        await take.start(start_in=max(trigger - time.time(), 0.0))
        await asyncio.sleep(seconds)
        await take.stop()
        await take.collect()
    return take.manifest


def rows(trigger: float, manifest: Manifest) -> list[list[object]]:
    """Return the rows of the table, one for each camera."""

    def after(unix: float | None) -> float | None:
        return None if unix is None else round((unix - trigger) * 1000, 3)

    found: list[list[object]] = []
    for camera in manifest.cameras:
        commanded = camera.commanded_at.unix if camera.commanded_at else None
        accepted = camera.accepted_at.unix if camera.accepted_at else None
        clock = (camera.clock.offset * 1000, camera.clock.bound * 1000) if camera.clock else (None, None)
        found.append([trigger, manifest.take, camera.name, after(commanded), after(accepted), *clock])
    return found


def write(path: Path, table: Sequence[Sequence[object]]) -> None:
    """Write the table."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *table])


async def main(
    fleet: Path, triggers: Sequence[float], seconds: float = 5.0, directory: Path = Path("takes")
) -> Path:
    """Record at every trigger; return the path of the table."""
    table: list[list[object]] = []
    async with Session.open(fleet=fleet) as session:
        for trigger in triggers:
            table += rows(trigger, await take_at(session, trigger, seconds, directory))
    path = directory / "triggers.csv"
    await asyncio.to_thread(write, path, table)
    return path


if __name__ == "__main__":
    times = [float(line) for line in Path(sys.argv[2]).read_text().split()]
    print(asyncio.run(main(Path(sys.argv[1]), times)))
