"""Who plays in ``asynccam demo``: servers of all five systems, and what is done to them with ``--chaos``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asynccam.cli.subprocess_server import ServerProcess
from asynccam.model.credentials import Credentials

LOOPBACK: Final = "127.0.0.1"
SYSTEMS: Final[tuple[str, ...]] = ("multicam", "mediamtx", "thorvision", "snapshot", "nanocam")
"""In the order in which cameras are given to them."""
_PLACES: Final = ("east", "north", "west", "south", "attic", "cellar")
_PATTERNS: Final = ("ball", "smpte", "circular")
_HERE: Final = ("--host", LOOPBACK, "--port", "0")


@dataclass(frozen=True, slots=True)
class Fate:
    """What is done to a server on purpose.

    Attributes:
        words: Says so to a person.
        faults: Its fault switches, as for ``--fault``.
        dies: Whether it is killed in mid-recording.
    """

    words: str
    faults: tuple[str, ...] = ()
    dies: bool = False


_REFUSES: Final = Fate("refuses to start", ("refuse_start=the lens cap is on",))
_DIES: Final = Fate("is killed in mid-recording", dies=True)
_HANGS_UP: Final = Fate(
    "drops the connection instead of answering the stop", ("cut_answers=stop_recording,recording.stop",)
)
_SLOW: Final = Fate("takes its time for every answer", ("slow=0.7",))


@dataclass(frozen=True, slots=True)
class Part:
    """One server.

    Attributes:
        system: Which of the five.
        cameras: How many cameras it has.
        server: Its process.
        fate: What is done to it, or None.
    """

    system: str
    cameras: int
    server: ServerProcess
    fate: Fate | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        said = self.server.said
        return str(said.get("address") or f"{self.system}://{said['host']}:{said['port']}")

    @property
    def credentials(self) -> Credentials | None:
        """What it wants to see."""
        token = self.server.said.get("token")
        return Credentials(token=token) if isinstance(token, str) else None


def cast(count: int, place: Path, suffix: str, *, chaos: bool) -> list[Part]:
    """Who plays, none of it started yet.

    Args:
        count: Cameras, spread over the systems.
        place: Where servers keep their files.
        suffix: Keeps devices of other demos on this computer apart.
        chaos: Whether things are to go wrong.
    """
    spread = [count // len(SYSTEMS) + (number < count % len(SYSTEMS)) for number in range(len(SYSTEMS))]
    of = dict(zip(SYSTEMS, spread, strict=True))
    fates = iter((_REFUSES, _DIES) if chaos else ())
    parts = [_multicam(number, place, suffix, next(fates, None)) for number in range(of["multicam"])]
    if of["mediamtx"]:
        files = ("--http-port", "0", "--live", "--directory", str(place / "mediamtx"))
        parts.append(_service("mediamtx", of["mediamtx"], files, _HANGS_UP if chaos else None))
    if of["thorvision"]:
        size = ("--width", "640", "--height", "360")
        parts.append(_service("thorvision", of["thorvision"], size, _SLOW if chaos else None))
    if of["snapshot"]:
        of_snapshot = ("serve", "snapshot", *_HERE, "--test-cameras", str(of["snapshot"]))
        parts.append(Part("snapshot", of["snapshot"], ServerProcess("the Snapshot server", of_snapshot)))
    for number in range(of["nanocam"]):
        server = ServerProcess(f"nanocam server {number + 1}", ("serve", "nanocam", *_HERE))
        parts.append(Part("nanocam", 1, server, _DIES if chaos and number == 0 else None))
    return parts


def _multicam(number: int, place: Path, suffix: str, fate: Fate | None) -> Part:
    name = f"demo-{_PLACES[number]}-{suffix}"
    arguments = (
        *("serve", "multicam", *_HERE, "--interface", LOOPBACK, "--device-id", name),
        *("--directory", str(place / name), "--text", _PLACES[number]),
        *("--pattern", _PATTERNS[number % len(_PATTERNS)], *_switches(fate)),
    )
    return Part("multicam", 1, ServerProcess(name, arguments), fate)


def _service(system: str, cameras: int, options: Sequence[str], fate: Fate | None) -> Part:
    arguments = ("simulate", system, *_HERE, "--cameras", str(cameras), *options, *_switches(fate))
    return Part(system, cameras, ServerProcess(f"the {system} service", arguments), fate)


def _switches(fate: Fate | None) -> tuple[str, ...]:
    return tuple(word for fault in (fate.faults if fate else ()) for word in ("--fault", fault))
