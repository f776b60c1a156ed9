"""Camera interface that all systems implement."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from asynccam.errors import FeatureError
from asynccam.model.features import FeatureKey
from asynccam.model.info import CameraInfo, CameraStatus

F = TypeVar("F")


class Camera(ABC):
    """One camera of any system: its identity, its status and its features.

    Functions that only one system has are in that system's own client, the ``client`` of each camera.
    """

    @property
    @abstractmethod
    def info(self) -> CameraInfo:
        """Description of the camera, as far as it is known; no I/O."""

    @property
    @abstractmethod
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """Features of the camera, by key."""

    @abstractmethod
    async def status(self) -> CameraStatus:
        """Request the device's status.

        Raises:
            ConnectionError, TimeoutError: It does not answer.
            RemoteProtocolError: Its answer is invalid.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Release sockets and processes; harmless when called twice."""

    @property
    def id(self) -> str:
        """Stable identity, ``info.id``."""
        return self.info.id

    def supports(self, key: FeatureKey[Any]) -> bool:
        """Return whether the camera has a feature."""
        return key in self.features

    def feature(self, key: FeatureKey[F]) -> F:
        """Return the feature of a key, as in ``camera.feature(Record)``.

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
