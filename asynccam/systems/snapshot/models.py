"""What a Snapshot server says: dictionaries as the maker's client gives them, fields as typed attributes too.

Servers in the field leave keys out and write numbers as text, so whatever can be understood is, and one odd
entry hides no other. See docs/protocols/snapshot.md.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from asynccam.errors import AsynccamError
from asynccam.model.info import LocalFile
from asynccam.outside import clean_text, clean_values
from asynccam.systems.snapshot.errors import RemoteProtocolError, said_in
from asynccam.systems.snapshot.result import Answer, Told

M = TypeVar("M")


class CameraEntry(Answer):
    """A camera as the server is configured for it.

    Attributes:
        name: What it is asked for by; may hold anything.
        device_path: ``/dev/video0`` for example; two cameras may share one.
        type: ``v4l2`` or ``stream_interrupt``.
        width: Pixels, or None.
        height: Pixels, or None.
        pixel_format: A FOURCC, ``MJPG`` for example.
        stereo: Whether it belongs to the stereo pair.
        service_name: The service that is stopped for a picture, or ``""``.
        roll_offset: Added to the IMU's reading, or None.
        pitch_offset: As above.
        yaw_offset: As above.
    """

    __slots__ = ()

    name: Told[str] = Told("")
    device_path: Told[str] = Told("")
    type: Told[str] = Told("")
    width: Told[int | None] = Told(None)
    height: Told[int | None] = Told(None)
    pixel_format: Told[str] = Told("")
    stereo: Told[bool] = Told(False)
    service_name: Told[str] = Told("")
    roll_offset: Told[float | None] = Told(None)
    pitch_offset: Told[float | None] = Told(None)
    yaw_offset: Told[float | None] = Told(None)


class SnapshotResult(Answer):
    """What became of a picture of one camera.

    Attributes:
        success: Whether it was taken.
        filename: The server's name for it, or None; **not** safe as a path.
        message: The server's words.
        image_url_path: Where it is, below the base URL, or None.
        error: Why there is none, or None.
    """

    __slots__ = ()

    success: Told[bool] = Told()
    filename: Told[str | None] = Told(None)
    message: Told[str] = Told("")
    image_url_path: Told[str | None] = Told(None)
    error: Told[str | None] = Told(None)


class CameraResult(Answer):
    """What became of one camera's picture among several.

    Attributes:
        camera_name: The camera.
        status: ``success`` or ``failure``.
        filename: The server's name for the picture, or None; **not** safe as a path.
        image_url_path: Where it is, below the base URL, or None.
        error: Why there is none, or None.
    """

    __slots__ = ()

    camera_name: Told[str] = Told("")
    status: Told[str] = Told("")
    filename: Told[str | None] = Told(None)
    image_url_path: Told[str | None] = Told(None)
    error: Told[str | None] = Told(None)

    @property
    def success(self) -> bool:
        """Whether the picture was taken; a server that leaves the status out says so by where it is."""
        taken = self.image_url_path is not None and not self.error
        return self.status.lower() == "success" or (not self.status and taken)


class SnapshotResults(Answer):
    """What became of the pictures of several cameras.

    Attributes:
        results: One for each camera, in the server's order.
        error: What the server says of the whole, or None.
    """

    __slots__ = ()

    results: Told[list[CameraResult]] = Told()
    error: Told[str | None] = Told(None)

    @property
    def pictures(self) -> tuple[CameraResult, ...]:
        """Those of which there is a picture."""
        return tuple(one for one in self.results if one.success)

    @property
    def failures(self) -> tuple[CameraResult, ...]:
        """Those of which there is none."""
        return tuple(one for one in self.results if not one.success)


class StoredPicture(Answer):
    """A picture in the store of a server of our own.

    Attributes:
        filename: The server's name for it; **not** safe as a path.
        camera: The camera's name, or None where it is not known.
        taken_at: Unix seconds.
        size: Bytes.
    """

    __slots__ = ()

    filename: Told[str] = Told()
    camera: Told[str | None] = Told(None)
    taken_at: Told[float | None] = Told(None)
    size: Told[int | None] = Told(None)


class PicturePage(BaseModel):
    """Some pictures of a store, newest first.

    Attributes:
        items: The pictures.
        next: Asks for those that follow, or None.
    """

    items: tuple[StoredPicture, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """What came home of one camera among several.

    Attributes:
        camera: The camera's name.
        file: The picture, or None.
        error: Why there is none, or None.
    """

    camera: str
    file: LocalFile | None = None
    error: AsynccamError | None = None


_CAMERAS: Final = TypeAdapter(list[CameraEntry])
_RESULT: Final = TypeAdapter(SnapshotResult)
_RESULTS: Final = TypeAdapter(SnapshotResults)
_PAGE: Final = TypeAdapter(PicturePage)


def parse_cameras(data: bytes, source: str) -> list[CameraEntry]:
    """The answer to ``GET /api/cameras``.

    Args:
        data: As it came.
        source: Names the peer in the error.

    Raises:
        RemoteProtocolError: It is none.
    """
    return _parsed(_CAMERAS, data, source, "list of cameras")


def parse_result(data: bytes, source: str) -> SnapshotResult:
    """The answer to a capture of one camera; errors as of `parse_cameras`."""
    return _parsed(_RESULT, data, source, "result of a capture")


def parse_results(data: bytes, source: str) -> SnapshotResults:
    """The answer to a capture of several cameras; errors as of `parse_cameras`."""
    return _parsed(_RESULTS, data, source, "list of results")


def parse_page(data: bytes, source: str) -> PicturePage:
    """The answer to ``GET /api/v1/snapshots``; errors as of `parse_cameras`."""
    return _parsed(_PAGE, data, source, "list of pictures")


def _parsed(kind: TypeAdapter[M], data: bytes, source: str, what: str) -> M:
    try:
        return kind.validate_json(data)
    except ValueError as error:
        try:
            return _understood(kind, data)
        except (ValueError, RecursionError):
            text = clean_text(data.decode(errors="replace"))
            said = said_in(text)
            raise RemoteProtocolError(
                f"{source} sent what is no {what}: {_flaw(error)}" + (said and f"; it says: {said}"),
                status_code=200,
                response_text=text,
            ) from None


def _understood(kind: TypeAdapter[M], data: bytes) -> M:
    """What can be made of an answer with flaws."""
    document = clean_values(json.loads(data))
    try:
        return kind.validate_python(document)
    except ValidationError as error:
        return kind.validate_python(_mended(document, error))


def _flaw(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(step) for step in first['loc']) or 'the whole'}: {first['msg']}"


def _mended(document: Any, error: ValidationError) -> Any:
    """What was sent, with everything that cannot be read made text where text belongs, or left out."""
    for flaw in error.errors(include_url=False):
        *way, last = flaw["loc"] or ("",)
        parent = document
        for step in way:
            parent = parent[step]
        if flaw["type"] == "string_type":
            parent[last] = _text(flaw["input"])
        elif flaw["type"] == "dict_type" and way == ["results"]:
            # It counts as a failure, so that it hides no other camera's result.
            words = f"the server sent {_text(flaw['input']) or 'null'} for a result"
            parent[last] = {"status": "failure", "error": words}
        elif isinstance(parent, dict):
            parent.pop(last, None)
    cameras = [one for one in document if isinstance(one, dict)] if isinstance(document, list) else []
    return cameras or document  # entries that are none hide no camera


def _text(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
