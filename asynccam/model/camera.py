"""The Camera interface: what all five systems have in common, and no more."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from asynccam.errors import FeatureError
from asynccam.model.features import FeatureKey
from asynccam.model.info import CameraInfo, CameraStatus

F = TypeVar("F")


class Camera(ABC):
    """One camera of any system: who it is, how it is, and what it can do.

    A caller who needs what only one system has uses that system's own client, which every
    camera keeps at hand as ``client``; nothing is hidden behind this face.
    """

    @property
    @abstractmethod
    def info(self) -> CameraInfo:
        """Who the camera is, as far as it has told; needs no I/O."""

    @property
    @abstractmethod
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """What the camera can do, by key."""

    @abstractmethod
    async def status(self) -> CameraStatus:
        """Ask the device how it is.

        Raises:
            ConnectionError, TimeoutError: It does not answer.
            RemoteProtocolError: It answers nonsense.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Release sockets and processes; harmless when called twice."""

    @property
    def id(self) -> str:
        """The stable identity, ``info.id``."""
        return self.info.id

    def supports(self, key: FeatureKey[Any]) -> bool:
        """Whether the camera has a feature."""
        return key in self.features

    def feature(self, key: FeatureKey[F]) -> F:
        """The feature behind a key, such as ``camera.feature(Record)``.

        Raises:
            FeatureError: The camera does not have it.
        """
        try:
            return cast("F", self.features[key])
        except KeyError:
            have = ", ".join(sorted(k.name for k in self.features)) or "none"
            raise FeatureError(f"{self.id} has no feature {key.name!r} (it has: {have})") from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"
