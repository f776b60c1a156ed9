"""Servers of ``asynccam demo`` for all five systems, and their faults with ``--chaos``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.cli.subprocess_server import ServerProcess
from asynccam.model.credentials import Credentials

LOOPBACK: Final = "127.0.0.1"
SYSTEMS: Final[tuple[str, ...]] = ("multicam", "mediamtx", "thorvision", "snapshot", "nanocam")
"""In the order in which cameras are given to them."""
_NAMES: Final = ("east", "north", "west", "south", "attic", "cellar")
_PATTERNS: Final = ("ball", "smpte", "circular")
_LISTEN: Final = ("--host", LOOPBACK, "--port", "0")


@dataclass(frozen=True, slots=True)
class Fault:
    """Deliberate fault of a server: ``switches`` are values for ``--fault``."""

    description: str
    switches: tuple[str, ...] = ()
    is_killed: bool = False


_REFUSES: Final = Fault("refuses to start", ("refuse_start=the lens cap is on",))
_DIES: Final = Fault("is killed in mid-recording", is_killed=True)
_DROPS_CONNECTION: Final = Fault(
    "drops the connection instead of answering the stop", ("cut_answers=stop_recording,recording.stop",)
)
_SLOW: Final = Fault("answers slowly", ("slow=0.7",))


@dataclass(frozen=True, slots=True)
class DemoServer:
    """One server process with its cameras, and its deliberate fault."""

    system: str
    cameras: int
    server: ServerProcess
    fault: Fault | None = None

    @property
    def address(self) -> str:
        """Address at which the server listens."""
        said = self.server.facts
        return str(said.get("address") or f"{self.system}://{said['host']}:{said['port']}")

    @property
    def credentials(self) -> Credentials | None:
        """Credentials that the server expects, or None."""
        token = self.server.facts.get("token")
        return Credentials(token=token) if isinstance(token, str) else None


def demo_servers(count: int, directory: Path, suffix: str, *, chaos: bool) -> list[DemoServer]:
    """Return the servers of a demo, not started yet, with ``count`` cameras over all systems."""
    spread = [count // len(SYSTEMS) + (index < count % len(SYSTEMS)) for index in range(len(SYSTEMS))]
    of = dict(zip(SYSTEMS, spread, strict=True))
    faults = iter((_REFUSES, _DIES) if chaos else ())
    parts = [_multicam(index, directory, suffix, next(faults, None)) for index in range(of["multicam"])]
    if of["mediamtx"]:
        files = ("--http-port", "0", "--live", "--directory", str(directory / "mediamtx"))
        parts.append(_service("mediamtx", of["mediamtx"], files, _DROPS_CONNECTION if chaos else None))
    if of["thorvision"]:
        size = ("--width", "640", "--height", "360")
        parts.append(_service("thorvision", of["thorvision"], size, _SLOW if chaos else None))
    if of["snapshot"]:
        of_snapshot = ("serve", "snapshot", *_LISTEN, "--test-cameras", str(of["snapshot"]))
        parts.append(
            DemoServer("snapshot", of["snapshot"], ServerProcess("the Snapshot server", of_snapshot))
        )
    for index in range(of["nanocam"]):
        server = ServerProcess(f"nanocam server {index + 1}", ("serve", "nanocam", *_LISTEN))
        parts.append(DemoServer("nanocam", 1, server, _DIES if chaos and index == 0 else None))
    return parts


def _multicam(index: int, directory: Path, suffix: str, fault: Fault | None) -> DemoServer:
    name = f"demo-{_NAMES[index]}-{suffix}"
    arguments = (
        *("serve", "multicam", *_LISTEN, "--interface", LOOPBACK, "--device-id", name),
        *("--directory", str(directory / name), "--text", _NAMES[index]),
        *("--pattern", _PATTERNS[index % len(_PATTERNS)], *_switches(fault)),
    )
    return DemoServer("multicam", 1, ServerProcess(name, arguments), fault)


def _service(system: str, cameras: int, options: Sequence[str], fault: Fault | None) -> DemoServer:
    arguments = ("simulate", system, *_LISTEN, "--cameras", str(cameras), *options, *_switches(fault))
    return DemoServer(system, cameras, ServerProcess(f"the {system} service", arguments), fault)


def _switches(fault: Fault | None) -> tuple[str, ...]:
    return tuple(argument for switch in (fault.switches if fault else ()) for argument in ("--fault", switch))
