"""Takes over devices whose first frame is known, and whether what the manifest states contains it.

Devices that are told alike (at once or for a time ahead, with a time server or without, files looked into or
not) are in one take, side by side. Each device of a take is one combination.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from asynccam.model.info import ClockOffset
from asynccam.model.manifest import CameraRecord
from asynccam.net.clock import query_sntp
from asynccam.recording.verify import verify_file
from asynccam.systems.multicam import MultiCamCamera
from asynccam.take import Take, TimeServer
from asynccam.wall_clock import WALL_CLOCK
from tests.support.time_devices import Device, ask, devices_running
from tests.support.time_peers import HOST, Origin, Peer, peers_running

ROUNDING: Final = 1e-6
"""Seconds that a Unix time loses as a float and through a middle and a half."""


@dataclass(frozen=True)
class Kind:
    """How the devices of a take are told.

    Attributes:
        start_in: Seconds from the start to T0.
        armed_for: Seconds that the devices are armed before they are started.
        server: A time server for T0, or None.
        looks: Whether files are looked into.
        duration: Seconds.
    """

    start_in: float = 0.8
    armed_for: float = 0.0
    server: Peer | None = None
    looks: bool = True
    duration: float = 0.5


KINDS: Final[Mapping[str, Kind]] = {
    "now": Kind(start_in=0.0, armed_for=1.5),
    "ahead": Kind(),
    "server": Kind(server=Peer(offset=0.6, network="symmetric")),
    "unseen": Kind(looks=False),
}

COMBINATIONS: Final[Mapping[str, Mapping[str, Device]]] = {
    "now": {
        "records, on time": Device("recording"),
        "records, 0.4 s late": Device("recording", late=0.4),
        "records, jitter": Device("recording", late=0.02, network="jitter"),
        "records, wifi, 10 ms stamps, -100 ppm": Device(
            "recording", late=0.1, network="wifi", step=1e-2, drift=-1e-4
        ),
        "heard, on time": Device("heard"),
        "heard, 0.7 s late": Device("heard", late=0.7),
        "heard, 1.5 s late": Device("heard", late=1.5),
        "heard, jitter, 0.3 s late": Device("heard", late=0.3, network="jitter"),
        "heard, wifi, says so 0.4 s later": Device("heard", late=0.2, network="wifi", lag=0.4),
        "says at once that it records, 0.6 s late": Device("early", late=0.6),
        "says at once that it records, slow back": Device("early", late=0.2, network="slow back"),
        "accepts a schedule, 0.5 s late": Device("scheduled", late=0.5),
        "records for others since 1.4 s": Device("recording", already=1.4),
        "heard, for others since 1.2 s": Device("heard", already=1.2),
        "tells, 1 s stamps": Device("recording", late=0.3, step=1.0, tells=True, spread=3600.0),
        "tells, jitter": Device("heard", late=0.3, network="jitter", tells=True, spread=3600.0),
    },
    "ahead": {
        "scheduled, on time": Device(),
        "scheduled, 50 ms late": Device(late=0.05),
        "scheduled, 0.3 s late": Device(late=0.3),
        "scheduled, 0.7 s late": Device(late=0.7),
        "scheduled, 1.4 s late": Device(late=1.4),
        "scheduled, 1 ms stamps": Device(step=1e-3),
        "scheduled, 10 ms stamps, rounded": Device(step=1e-2, rounding="round"),
        "scheduled, 1 s stamps": Device(step=1.0),
        "scheduled, jitter": Device(late=0.02, network="jitter"),
        "scheduled, wifi, 0.4 s late": Device(late=0.4, network="wifi"),
        "scheduled, symmetric": Device(late=0.03, network="symmetric"),
        "scheduled, slow there": Device(late=0.06, network="slow there"),
        "scheduled, slow back, 0.2 s late": Device(late=0.2, network="slow back"),
        "scheduled, +450 ppm": Device(drift=450e-6),
        "scheduled, its clocks 1 s behind": Device(offset=-1.0, corrected=-1.0),
        "scheduled, its clocks 0.3 s ahead": Device(offset=0.3, corrected=0.3),
        "scheduled, only its system clock 1 s ahead": Device(offset=1.0),
        "scheduled, only its corrected clock 0.3 s behind": Device(corrected=-0.3),
        "scheduled, only its corrected clock 0.2 s ahead": Device(corrected=0.2, packs=0.3),
        "scheduled, says so 0.4 s later": Device(lag=0.4),
        "scheduled, takes 0.4 s to stop": Device(packs=0.4),
        "scheduled, for others since 0.3 s": Device(already=0.3),
        "records, for others since 0.3 s": Device("recording", already=0.3),
        "heard, on time": Device("heard"),
        "heard, 0.6 s late": Device("heard", late=0.6),
        "tells, on time": Device(tells=True, spread=3600.0),
        "tells, wifi, 0.7 s late": Device(late=0.7, network="wifi", tells=True),
        "tells, 10 ms stamps, jitter": Device(step=1e-2, network="jitter", tells=True),
        "tells 0.9 s too much": Device(tells=True, lies=0.9),
    },
    "server": {
        "with a server, on time": Device(offset=0.6, corrected=0.6),
        "with a server, jitter": Device(late=0.05, offset=0.6, corrected=0.6, network="jitter"),
        "with a server, 0.5 s late": Device(late=0.5, offset=0.6, corrected=0.6),
        "with a server, system clock 1 s off": Device(offset=1.6, corrected=0.6),
        "with a server, 1 s stamps": Device(offset=0.6, corrected=0.6, step=1.0),
        "with a server, tells": Device(late=0.02, offset=0.6, corrected=0.6, tells=True),
        "with a server, heard, 0.3 s late": Device("heard", late=0.3, offset=0.6, corrected=0.6),
    },
    "unseen": {
        "files not looked into, on time": Device(),
        "files not looked into, 0.6 s late": Device(late=0.6),
        "files not looked into, tells": Device(late=0.08, tells=True, spread=3600.0),
        "files not looked into, heard, 0.4 s late": Device("heard", late=0.4),
    },
}
"""By kind of take and by name."""


@dataclass(frozen=True)
class Judged:
    """What a manifest states of a device, beside the truth.

    Attributes:
        record: Of the manifest.
        truth: Its first frame, Unix seconds of the take's scale.
    """

    record: CameraRecord
    truth: float

    @property
    def bound(self) -> float | None:
        """As stated; None if it is not known when the first frame was."""
        return self.record.first_frame_bound if self.record.first_frame_at else None

    @property
    def error(self) -> float:
        """Stated minus true, 0 if nothing is stated."""
        return self.record.first_frame_at.unix - self.truth if self.record.first_frame_at else 0.0

    @property
    def holds(self) -> bool:
        return self.bound is None or (self.bound > 0 and abs(self.error) <= self.bound + ROUNDING)

    def __str__(self) -> str:
        spans = [
            f"{one.source} {_from(one.earliest, self.truth)}..{_from(one.latest, self.truth)}"
            for one in self.record.evidence
        ]
        stated = "unknown" if self.bound is None else f"{self.error:+.4f} s of {self.bound:.4f} s"
        return f"{stated}; {'; '.join(spans)}; {self.record.contradictions}; {self.record.errors}"


def _from(moment: object, truth: float) -> str:
    unix = getattr(moment, "unix", None)
    return "?" if unix is None else f"{unix - truth:+.4f}"


@dataclass(frozen=True)
class Stage:
    """The devices of one kind of take, running."""

    kind: Kind
    devices: Sequence[Device]
    ports: Sequence[int]
    time_server: TimeServer | None


@contextmanager
def stage(kind: str, devices: Sequence[Device]) -> Iterator[Stage]:
    """Run devices for takes of a kind; the wall clock is pinned meanwhile, so that all is of one scale."""
    WALL_CLOCK.pin()
    try:
        moment = time.monotonic()
        origin = Origin(moment + _scale(), moment)
        server = KINDS[kind].server
        with devices_running(devices, origin) as ports, peers_running([server or Peer()], origin) as (port,):

            async def query() -> ClockOffset:
                return await query_sntp(HOST, port)

            reference = None if server is None else TimeServer(f"{HOST}:{port}", query)
            yield Stage(KINDS[kind], devices, ports, reference)
    finally:
        WALL_CLOCK.unpin()


async def run_take(staged: Stage, directory: Path, seed: int) -> list[Judged]:
    """One take over all devices of a stage; offsets and networks by the seed."""
    kind = staged.kind
    preparing = (
        ask(port, "PREPARE", device=asdict(device), seed=seed * 1000 + number)
        for number, (port, device) in enumerate(zip(staged.ports, staged.devices, strict=True))
    )
    await asyncio.gather(*preparing)
    cameras = await asyncio.gather(
        *(MultiCamCamera.connect(f"multicam://{HOST}:{port}") for port in staged.ports)
    )
    try:
        verify = verify_file if kind.looks else None
        take = Take(cameras, directory, name=f"{seed}", verify=verify, time_server=staged.time_server)
        if kind.armed_for:
            await take.arm(duration=kind.duration)
            await asyncio.sleep(kind.armed_for)  # somebody else may start them meanwhile
            await take.start(start_in=kind.start_in)
            await asyncio.sleep(kind.duration)
            await take.stop()
            await take.collect()
        else:
            await take.run(duration=kind.duration, start_in=kind.start_in)
    finally:
        for camera in cameras:
            await camera.aclose()
    told = await asyncio.gather(*(ask(port, "TRUTH") for port in staged.ports))
    scale = _scale()
    return [
        Judged(record, truth["first"] + scale)
        for record, truth in zip(take.manifest.cameras, told, strict=True)
    ]


def _scale() -> float:
    """Return what the wall clock shows at the monotonic clock's 0, by the closest of several readings."""
    readings = []
    for _ in range(100):
        before, now, after = time.monotonic(), WALL_CLOCK.now(), time.monotonic()
        readings.append((after - before, now - (before + after) / 2))
    return min(readings)[1]
