"""Where a media server keeps what it captures: a folder of its own for each capture, gone when it is sent."""

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

from asynccam.errors import InsufficientSpaceError
from asynccam.runtime.disk import on_disk, storage_errors

_PREFIX: Final = "asynccam-nanocam-"


class CaptureFolder:
    """A place for the files of one capture; only what was made here is ever removed.

    Args:
        kept: Where files stay for good, or None for a temporary folder.
        reserve: Bytes of disk that stay free.

    Attributes:
        path: Where files go, while the folder is open.
    """

    path: Path

    def __init__(self, kept: Path | None, reserve: int) -> None:
        self._kept = kept
        self._reserve = reserve
        self._made: Path | None = None

    async def __aenter__(self) -> "CaptureFolder":
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Make the folder.

        Raises:
            InsufficientSpaceError: The disk is nearly full.
            StorageError: The folder cannot be made.
        """
        try:
            await on_disk(self._open)
        except BaseException:
            await self.aclose()  # a caller cancelled meanwhile does not close what it does not have
            raise

    async def aclose(self) -> None:
        """Remove the folder, unless its files stay.

        Raises:
            StorageError: It cannot be removed.
        """
        if self._made is not None:
            await on_disk(self._remove, self._made)

    def _open(self) -> None:
        parent = self._kept or Path(tempfile.gettempdir())
        with storage_errors("make a folder in", parent):
            parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(parent).free
            if free < self._reserve:
                raise InsufficientSpaceError(
                    f"{free} bytes are free in {parent}, {self._reserve} have to stay free",
                    needed=self._reserve,
                    free=free,
                )
            if self._kept is None:
                self._made = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self.path = self._made or parent

    def _remove(self, made: Path) -> None:
        with storage_errors("remove", made):
            shutil.rmtree(made)
