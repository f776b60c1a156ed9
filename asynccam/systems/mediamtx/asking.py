"""What the groups of remote methods need of the client they belong to."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, TypeVar

from asynccam.errors import UsageError
from asynccam.model.events import Event
from asynccam.systems.mediamtx.auth import LinkFacts
from asynccam.systems.mediamtx.models import Answer
from asynccam.systems.mediamtx.state_cache import Roster

A = TypeVar("A", bound=Answer)


class Asking(ABC):
    """A client's calls and its knowledge, for the methods built on them."""

    _roster: Roster

    @abstractmethod
    async def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        repeat: bool = False,
    ) -> Any:
        """Call any remote method; see `CameraClient.call`."""

    @property
    @abstractmethod
    def _facts(self) -> LinkFacts:
        """What is known of the service on the present connection."""

    @abstractmethod
    def _learned(self, events: Iterable[Event]) -> None:
        """Tell who listens what an answer changed in the roster."""

    async def _read(
        self,
        shape: type[A],
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> A:
        """A call that only reads, and so may be sent again after a lost connection."""
        return shape.read(await self.call(method, params, timeout=timeout, repeat=True), method=method)

    async def _change(
        self,
        shape: type[A],
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> A:
        """A call that changes something, and so is never sent twice."""
        return shape.read(await self.call(method, params, timeout=timeout), method=method)


def one_device(device_path: str, device: str) -> str:
    """The camera that is meant, by either name of the argument.

    Raises:
        UsageError: Neither was given, or both differ.
    """
    if device_path and device and device_path != device:
        raise UsageError(f"one camera at a time: device_path is {device_path!r}, device {device!r}")
    if not (device_path or device):
        raise UsageError("which camera? Give its device, /dev/video0 or camera0 for example")
    return device_path or device


def given(**params: Any) -> dict[str, Any]:
    """The parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}
