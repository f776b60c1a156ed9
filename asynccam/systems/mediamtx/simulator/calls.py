"""One call to a simulated service: what was asked, by whom, and what is told once it is answered."""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from asynccam.systems.mediamtx.simulator.access import Credential
from asynccam.systems.mediamtx.simulator.errors import Refusal, Why

_LONGEST_NAME: Final = 200


class Caller(Protocol):
    """The connection a call came on.

    Attributes:
        number: Which connection it is, counted from 1.
        credential: What it is signed in with, or None.
        spoilt: Nothing signs it in any more.
        topics: What it subscribed to, with filters.
        recent: When its last calls came, on the monotonic clock.
    """

    number: int
    credential: Credential | None
    spoilt: bool
    topics: dict[str, dict[str, Any]]
    recent: deque[float]

    def post(self, document: Any) -> None:
        """Send a document after all that was posted before; never waits."""
        ...


@dataclass(slots=True)
class Call:
    """A request under way.

    Attributes:
        caller: Where it came from.
        method: What is asked.
        params: With what, by name.
        afterwards: What is done once the answer is on its way.
    """

    caller: Caller
    method: str
    params: dict[str, Any]
    afterwards: list[Callable[[], None]] = field(default_factory=list)

    def text(self, name: str) -> str:
        """A text that must be given."""
        value = self.params.get(name)
        if not isinstance(value, str) or not value:
            raise Refusal(Why.PARAMS, detail=f"{name} must be a text")
        return value

    def number(self, name: str) -> float | None:
        """A number, or None if it is not given."""
        value = self.params.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise Refusal(Why.PARAMS, detail=f"{name} must be a number")
        return value

    def count(self, name: str, default: int, least: int, most: int | None = None) -> int:
        """A whole number within bounds."""
        value = self.params.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refusal(Why.PARAMS, detail=f"{name} must be a whole number")
        if value < least or (most is not None and value > most):
            raise Refusal(Why.PARAMS, detail=f"{name} must be {least} to {most or 'any number'}")
        return value

    def words(self, name: str) -> list[str]:
        """A list of texts that must be given."""
        value = self.params.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
            raise Refusal(Why.PARAMS, detail=f"{name} must be a list of texts")
        return value

    def filename(self) -> str:
        """The name of a file, which is no path."""
        name = self.text("filename")
        plain = name.isprintable() and "/" not in name and "\\" not in name and not name.startswith(".")
        if not plain or len(name.encode()) > _LONGEST_NAME:
            raise Refusal(Why.PARAMS, detail="filename must be a plain file name")
        return name


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Method:
    """What a service does for a method.

    Attributes:
        role: The role it takes, or None for none, not even a sign-in.
        handler: Gives the result.
    """

    role: str | None
    handler: Handler
