"""SnapshotCamera: one camera of a Snapshot server, with the interface of all cameras."""

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import quote

from asynccam.errors import AddressError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.digest import DigestName
from asynccam.model.features import FeatureKey, Files, Progress, Snapshot
from asynccam.model.identity import Identity, identifying_facts
from asynccam.model.info import CameraInfo, CameraState, CameraStatus, LocalFile, MediaFile
from asynccam.runtime.tasks import finish_on_error
from asynccam.systems._base import choose_camera
from asynccam.systems.snapshot.client import SnapshotClient
from asynccam.systems.snapshot.errors import NotFoundError
from asynccam.systems.snapshot.models import CameraEntry
from asynccam.wall_clock import unix_now

MakeClient = Callable[[str], SnapshotClient]
"""Returns a client for a base URL."""

_MAX_REMEMBERED: Final = 1000
_INFO_KEYS: Final = ("name", "type")
_ADDRESS_HINT: Final = "what follows the last slash is the camera, and what precedes it the server's path"


class SnapshotCamera(Camera):
    """One camera, identified by its server's address and its name there.

    Its features are `Snapshot` and `Files`. In a `Take` it takes one picture at T0.

    Args:
        client: Client of its server.
        entry: The camera as the server listed it last.
        owns_client: Whether closing the camera closes the client.
    """

    def __init__(self, client: SnapshotClient, entry: CameraEntry, *, owns_client: bool = False) -> None:
        self.client = client
        self.entry = entry
        self._owns_client = owns_client
        self._identity = Identity(_facts(entry), error=NotFoundError)
        self._taken: deque[MediaFile] = deque(maxlen=_MAX_REMEMBERED)
        self._features: Mapping[FeatureKey[Any], object] = MappingProxyType({Snapshot: self, Files: self})

    @classmethod
    async def connect(
        cls, address: Address | str, *, make_client: MakeClient = SnapshotClient
    ) -> "SnapshotCamera":
        """Connect to one camera of a server.

        Args:
            address: `Address` or ``snapshot[s]://HOST[:PORT][/PATH]/[CAMERA]``; the camera may be left out
                if the server has a single one.
            make_client: Returns the client; for a token or a session, pass
                ``functools.partial(SnapshotClient, token=...)``.

        Raises:
            AddressError: It is not an address of this system, or does not name a camera.
            NotFoundError: The server has no such camera.
            SnapshotClientError: The request failed.
        """
        target = _address(address)
        client = make_client(base_url_of(target))
        async with finish_on_error(client.aclose):
            await client.__aenter__()
            camera = await cls.at(target, client)
        camera._owns_client = True
        return camera

    @classmethod
    async def at(cls, address: Address | str, client: SnapshotClient) -> "SnapshotCamera":
        """Find one camera of a client's server; the client remains caller-owned.

        Raises:
            AddressError, NotFoundError, SnapshotClientError: As for `connect`.
        """
        target = _address(address)
        try:
            entries = await _named(client)
        except NotFoundError as error:
            error.args = (f"{error}; in {target} {_ADDRESS_HINT}",)
            raise
        hint = f"; in {target} {_ADDRESS_HINT}" if "/" in target.camera or target.path else ""
        entry = choose_camera(
            entries,
            target,
            lambda entry: (entry.name,),
            label=lambda entry: repr(entry.name),
            error=NotFoundError,
            hint=hint,
        )
        return cls(client, entry)

    @classmethod
    async def all_of(cls, client: SnapshotClient) -> "tuple[SnapshotCamera, ...]":
        """Return all cameras of a client's server; the client remains caller-owned."""
        return tuple(cls(client, entry) for entry in await _named(client))

    @property
    def info(self) -> CameraInfo:
        """Description of the camera, as the server sent it last."""
        address = self.client.address_of(self.entry.name)
        return CameraInfo(
            id=address,
            system="snapshot",
            name=self.entry.name,
            address=address,
            model=self.entry.type,
            extra=MappingProxyType({key: self.entry[key] for key in self.entry if key not in _INFO_KEYS}),
            identity=self._identity.facts,
        )

    @property
    def features(self) -> Mapping[FeatureKey[Any], object]:
        """Features of the camera, by key."""
        return self._features

    async def status(self) -> CameraStatus:
        """Ask the server whether it still has the camera; it reports nothing else.

        Raises:
            NotFoundError: The server has another camera under this name.
            SnapshotClientError: The request failed.
        """
        for entry in await self.client.get_cameras():
            if entry.name == self.entry.name:
                self._identity.check(self.id, _facts(entry))
                self.entry = entry
                return CameraStatus(CameraState.READY, entry.device_path)
        return CameraStatus(CameraState.UNAVAILABLE, "the server no longer has this camera")

    @property
    def checks_pictures(self) -> Literal[True]:
        """Always True, see `asynccam.model.features.ChecksPictures`."""
        return True

    async def snapshot(self, directory: Path) -> LocalFile:
        """Take a picture and download it.

        Raises:
            DamagedFileError: The picture is broken; ``part`` is the incomplete file.
            SnapshotClientError, TransferError, StorageError: As `SnapshotClient.snapshot`.
        """
        file = await self.client.snapshot(self.entry, directory)
        self._taken.append(MediaFile(file.source, file.size, created=unix_now()))
        return file

    async def list_files(self) -> tuple[MediaFile, ...]:
        """Return the pictures, newest first; of an existing server, which has no list, those taken here.

        Raises:
            SnapshotClientError: The request failed.
        """
        try:
            stored = await self.client.list_snapshots(self.entry.name)
        except NotFoundError:
            return tuple(reversed(self._taken))
        return tuple(MediaFile(one.filename, one.size, created=one.taken_at) for one in stored)

    async def download(
        self,
        file: MediaFile | str,
        directory: Path,
        *,
        progress: Progress | None = None,
        digest: DigestName | None = "sha256",
    ) -> LocalFile:
        """Download one picture, given as listed or by its name, as `SnapshotClient.download`."""
        name = file if isinstance(file, str) else file.name
        path = f"/snapshots/{quote(name, safe='')}"
        return await self.client.download(path, directory, progress=progress, digest=digest)

    async def aclose(self) -> None:
        """Close the client if the camera owns it; may be called twice."""
        if self._owns_client:
            await self.client.aclose()


def _facts(entry: CameraEntry) -> Mapping[str, str]:
    """Return what identifies a camera; everything else may be changed in its settings."""
    return identifying_facts(entry, device_path=entry.device_path)


def base_url_of(address: Address) -> str:
    """Return the base URL of the server at an address."""
    return f"{'https' if address.secure else 'http'}://{address.authority}{address.path}"


async def _named(client: SnapshotClient) -> list[CameraEntry]:
    """Return the addressable cameras: those with a name, and the first of each name."""
    named: dict[str, CameraEntry] = {}
    for entry in await client.get_cameras():
        if entry.name:
            named.setdefault(entry.name, entry)
    return list(named.values())


def _address(address: Address | str) -> Address:
    target = Address.parse(address) if isinstance(address, str) else address
    if target.system != "snapshot":
        raise AddressError(f"{target} is not the address of a Snapshot camera")
    return target
