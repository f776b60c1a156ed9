"""Plan of a round, which follows from its seed and number alone."""

import random
from dataclasses import dataclass, field
from typing import Final

SYSTEMS: Final = ("multicam", "mediamtx", "thorvision", "snapshot", "nanocam")
HOSTS: Final = (
    "asyncio",
    "asyncio.timeout",
    "nested timeouts",
    "TaskGroup sibling",
    "cancelled twice",
    "anyio move_on_after",
    "anyio CancelScope",
    "anyio nested scopes",
    "anyio sibling",
    "starlette",
    "aiohttp",
    "left session",
    "aborted",
)
"""Programs that use the library; each can be told to cancel the take in its own way."""
ANCHORS: Final = ("launch", "created", "armed", "starting", "released", "stopping", "collecting")
"""Moments of a take that a fault may follow: its process begins, and the events of its journal."""
_SPREAD: Final = {
    "launch": 3.0,
    "created": 1.0,
    "armed": 0.3,
    "starting": 1.2,
    "released": 2.8,
    "stopping": 0.6,
    "collecting": 0.3,
}
"""Seconds within which a fault follows its anchor."""
_ANCHOR_WEIGHTS: Final = (1, 2, 1, 3, 6, 4, 3)
_STEPS: Final = (3.0, -3.0, 7200.0, -7200.0, -31_536_000.0)
"""Seconds by which the time of day is set."""
_COMMAND: Final = "record"
START_IN: Final = 1.0

_TO_CONTROLLER: Final = {
    "kill": 5,
    "terminate": 2,
    "terminate twice": 1,
    "interrupt": 2,
    "interrupt twice": 2,
    "freeze": 2,
    "sleep": 2,
    "set clock": 3,
    "cancel": 6,
    "fill disk": 3,
}
_TO_SERVER: Final = {"kill": 4, "freeze": 3, "cut": 3, "mute": 2}
_OF_NETWORK: Final = {"unplug": 2}
_WITH_DISK: Final = ("multicam", "mediamtx")
"""Systems whose devices keep recordings on a disk of their own."""
_FILLS: Final = 0.1
FOR_GOOD: Final = frozenset(
    {"kill", "terminate", "terminate twice", "interrupt", "interrupt twice", "cancel"}
)
"""Acts that end a controller; one of these a round."""


@dataclass(frozen=True)
class Act:
    """One thing that is done.

    Attributes:
        what: Which.
        target: ``controller``, ``network``, or the system whose server it is done to.
        anchor: What it follows.
        delay: Seconds after that.
        lasts: Seconds until it is put right, or None for not before the take is over.
        by: Seconds by which the clock is set.
    """

    what: str
    target: str
    anchor: str
    delay: float
    lasts: float | None = None
    by: float = 0.0

    def __str__(self) -> str:
        amount = f" {self.by:+g} s" if self.by else ""
        if self.lasts is not None:
            amount += f" for {self.lasts:.1f} s"
        return f"{self.what} {self.target}{amount} at {self.anchor}+{self.delay:.2f}"


@dataclass(frozen=True)
class Plan:
    """One round.

    Attributes:
        number: Its number.
        systems: Who takes part.
        host: What kind of program the controller is, or ``record`` for the command.
        opens: Whether the program uses `Session.open`, which goes on without cameras that do not answer.
        duration: Seconds to record.
        acts: What is done.
    """

    number: int
    systems: tuple[str, ...]
    host: str
    opens: bool
    duration: float
    acts: tuple[Act, ...] = field(default=())

    @property
    def is_command(self) -> bool:
        return self.host == _COMMAND


def plan(seed: int, number: int, *, namespaces: bool) -> Plan:
    """The plan of a round.

    Args:
        seed: Of the whole run.
        number: Of the round.
        namespaces: Whether file systems can be mounted and networks unplugged.
    """
    chance = random.Random(f"{seed}/{number}")
    count = chance.choices((1, 2, 3, 4, 5), (2, 4, 4, 2, 1))[0]
    chosen = set(chance.sample(SYSTEMS, count))
    systems = tuple(system for system in SYSTEMS if system in chosen)
    host = _COMMAND if chance.random() < 0.35 else chance.choice(HOSTS)
    opens = chance.random() < 0.5
    duration = round(chance.uniform(1.5, 3.0), 2)
    drawn = [_act(chance, systems, host) for _ in range(chance.choices((0, 1, 2, 3), (1, 6, 5, 2))[0])]
    acts: list[Act] = []
    ends = False
    for act in drawn:
        fatal = act.target == "controller" and act.what in FOR_GOOD
        alike = any((one.what, one.target) == (act.what, act.target) for one in acts)
        possible = namespaces or act.what not in ("fill disk", "unplug")
        if possible and not alike and not (fatal and ends):
            acts.append(act)
            ends = ends or fatal
    if namespaces:
        acts += _full_disks(random.Random(f"{seed}/{number}/disks"), systems)
    return Plan(number, systems, host, opens, duration, tuple(acts))


def _full_disks(chance: random.Random, systems: tuple[str, ...]) -> list[Act]:
    """The disk of a device or service that fills, in a few rounds."""
    filled = [one for one in systems if one in _WITH_DISK and chance.random() < _FILLS]
    return [
        Act("fill disk", one, anchor, round(chance.uniform(0.0, _SPREAD[anchor]), 2))
        for one in filled[:1]
        for anchor in chance.choices(ANCHORS, _ANCHOR_WEIGHTS)
    ]


def _act(chance: random.Random, systems: tuple[str, ...], host: str) -> Act:
    anchor = chance.choices(ANCHORS, _ANCHOR_WEIGHTS)[0]
    delay = round(chance.uniform(0.0, _SPREAD[anchor]), 2)
    lasts = round(chance.uniform(0.3, 4.0), 2)
    who = chance.choices(("controller", "server", "network"), (5, 5, 1))[0]
    if who == "server":
        what = _drawn(chance, _TO_SERVER)
        for_long = what in ("kill", "freeze") and chance.random() < 0.4
        return Act(what, chance.choice(systems), anchor, delay, None if for_long else lasts)
    if who == "network":
        return Act(_drawn(chance, _OF_NETWORK), "network", anchor, delay, lasts)
    choice = {name: weight for name, weight in _TO_CONTROLLER.items() if host != _COMMAND or name != "cancel"}
    what = _drawn(chance, choice)
    if what == "set clock":
        return Act(what, "controller", anchor, delay, by=chance.choice(_STEPS))
    if what == "fill disk":
        return Act(what, "controller", anchor, delay, lasts if chance.random() < 0.5 else None)
    if what in ("freeze", "sleep") or what.endswith("twice"):
        return Act(what, "controller", anchor, delay, lasts)
    return Act(what, "controller", anchor, delay)


def _drawn(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]
