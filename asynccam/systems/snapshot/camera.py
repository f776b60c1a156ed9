"""SnapshotCamera: one camera of a Snapshot server behind the face that all cameras share."""

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import quote

from asynccam.errors import AddressError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.features import FeatureKey, Files, Progress, Snapshot
from asynccam.model.identity import Identity, identifying_facts
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, LocalFile, MediaFile
from asynccam.runtime.tasks import finish
from asynccam.systems._base import choose_camera
from asynccam.systems.snapshot.client import SnapshotClient
from asynccam.systems.snapshot.errors import NotFoundError
from asynccam.systems.snapshot.models import CameraEntry
from asynccam.wall_clock import unix_now

MakeClient = Callable[[str], SnapshotClient]
"""Makes a client from a base URL."""

_REMEMBERED: Final = 1000
_OWN: Final = ("name", "type")
_READ: Final = "what follows the last slash is the camera, and what stands before it the server's path"


class SnapshotCamera(Camera):
    """One camera, known by its server's address and its name there.

    It takes a `Snapshot`, and has its pictures as `Files`. In a `Take` it takes one picture at T0.

    Args:
        client: Its server.
        entry: The camera as the server lists it.
        owns_client: Whether closing the camera closes the client.

    Attributes:
        client: For what only this system has.
        entry: As the server listed it last.
    """

    def __init__(self, client: SnapshotClient, entry: CameraEntry, *, owns_client: bool = False) -> None:
        self.client = client
        self.entry = entry
        self._owns_client = owns_client
        self._identity = Identity(_facts(entry), error=NotFoundError)
        self._taken: deque[MediaFile] = deque(maxlen=_REMEMBERED)
        self._features: Mapping[FeatureKey[Any], object] = MappingProxyType({Snapshot: self, Files: self})

    @classmethod
    async def connect(
        cls, address: Address | str, *, make_client: MakeClient = SnapshotClient
    ) -> "SnapshotCamera":
        """Find one camera of a server.

        Args:
            address: `Address` or ``snapshot[s]://HOST[:PORT][/PATH]/[CAMERA]``; the camera may be left out
                when the server has a single one.
            make_client: Makes the client; for a token or a session, hand in
                ``functools.partial(SnapshotClient, token=...)``.

        Raises:
            AddressError: It is no address of this system, or does not say which camera.
            NotFoundError: The server has no such camera.
            SnapshotClientError: The server cannot be asked, or is none.
        """
        place = _address(address)
        client = make_client(base_url_of(place))
        try:
            await client.__aenter__()
            camera = await cls.at(place, client)
        except BaseException:
            await finish(client.aclose())
            raise
        camera._owns_client = True
        return camera

    @classmethod
    async def at(cls, address: Address | str, client: SnapshotClient) -> "SnapshotCamera":
        """Find one camera of a client's server; the client stays the caller's to close.

        Raises:
            AddressError, NotFoundError, SnapshotClientError: As for `connect`.
        """
        place = _address(address)
        try:
            entries = await _named(client)
        except NotFoundError as error:
            error.args = (f"{error}; in {place} {_READ}",)
            raise
        hint = f"; in {place} {_READ}" if "/" in place.camera or place.path else ""
        entry = choose_camera(
            entries,
            place,
            lambda entry: (entry.name,),
            label=lambda entry: repr(entry.name),
            error=NotFoundError,
            hint=hint,
        )
        return cls(client, entry)

    @classmethod
    async def all_of(cls, client: SnapshotClient) -> "tuple[SnapshotCamera, ...]":
        """All cameras of a client's server; the client stays the caller's to close."""
        return tuple(cls(client, entry) for entry in await _named(client))

    @property
    def info(self) -> CameraInfo:
        """Who the camera is, as the server told last."""
        address = self.client.address_of(self.entry.name)
        return CameraInfo(
            id=address,
            system="snapshot",
            name=self.entry.name,
            address=address,
            model=self.entry.type,
            extra=MappingProxyType({key: self.entry[key] for key in self.entry if key not in _OWN}),
            identity=self._identity.facts,
        )

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """What the camera can do, by key."""
        return self._features

    async def status(self) -> CameraStatus:
        """Ask the server whether it still has the camera; it does not tell more.

        Raises:
            NotFoundError: The server has another camera under this name.
            SnapshotClientError: The server cannot be asked.
        """
        for entry in await self.client.get_cameras():
            if entry.name == self.entry.name:
                self._identity.check(self.id, _facts(entry))
                self.entry = entry
                return CameraStatus(CameraState.READY, entry.device_path)
        return CameraStatus(CameraState.UNAVAILABLE, "the server has no such camera any more")

    @property
    def checks_pictures(self) -> Literal[True]:
        """Always True, see `asynccam.model.features.ChecksPictures`."""
        return True

    async def snapshot(self, directory: Path) -> LocalFile:
        """Take a picture and bring it home.

        Raises:
            DamagedFileError: The picture is broken; ``part`` is what came of it.
            SnapshotClientError, TransferError, StorageError: As `SnapshotClient.snapshot`.
        """
        file = await self.client.snapshot(self.entry, directory)
        self._taken.append(MediaFile(file.source, file.size, created=unix_now()))
        return file

    async def list_files(self) -> tuple[MediaFile, ...]:
        """The camera's pictures, newest first; at servers in the field, which have no list, those taken here.

        Raises:
            SnapshotClientError: The server cannot be asked.
        """
        try:
            stored = await self.client.list_snapshots(self.entry.name)
        except NotFoundError:
            return tuple(reversed(self._taken))
        return tuple(MediaFile(one.filename, one.size, created=one.taken_at) for one in stored)

    async def download(
        self, file: MediaFile | str, directory: Path, *, progress: Progress | None = None
    ) -> LocalFile:
        """Bring one picture of the server home whole; see `SnapshotClient.download`.

        Args:
            file: As listed, or the server's name for it.
            directory: Where it goes; made if missing.
            progress: Called with bytes so far and the total.
        """
        name = file if isinstance(file, str) else file.name
        return await self.client.download(f"/snapshots/{quote(name, safe='')}", directory, progress=progress)

    async def aclose(self) -> None:
        """Close the client if it is the camera's own; harmless when called twice."""
        if self._owns_client:
            await self.client.aclose()


def _facts(entry: CameraEntry) -> Mapping[str, str]:
    """What a server tells to know a camera by; all else may be changed in its settings."""
    return identifying_facts(entry, device_path=entry.device_path)


def base_url_of(address: Address) -> str:
    """Where the server at an address is asked."""
    return f"{'https' if address.secure else 'http'}://{address.authority}{address.path}"


async def _named(client: SnapshotClient) -> list[CameraEntry]:
    """The cameras that can be asked for: servers know none without a name, and the first of each name."""
    named: dict[str, CameraEntry] = {}
    for entry in await client.get_cameras():
        if entry.name:
            named.setdefault(entry.name, entry)
    return list(named.values())


def _address(address: Address | str) -> Address:
    place = Address.parse(address) if isinstance(address, str) else address
    if place.system != "snapshot":
        raise AddressError(f"{place} is not the address of a Snapshot camera")
    return place
