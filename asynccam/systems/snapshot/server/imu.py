"""The IMU's readings, by MQTT. See docs/protocols/snapshot.md."""

import asyncio
import io
import json
import math
import struct
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import piexif
import piexif.helper

from asynccam.errors import AsynccamError, ConnectionError
from asynccam.net.mqtt import MqttBroker, MqttMessage, connect_mqtt
from asynccam.outside import read_json
from asynccam.runtime.disk import storage_errors
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff, retry
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.systems.snapshot.server.events import ImuChanged
from asynccam.systems.snapshot.server.models import VERSION, Reading
from asynccam.systems.snapshot.server.secret import read_secret
from asynccam.systems.snapshot.server.settings import ImuSettings
from asynccam.wall_clock import unix_now

_MAX_PAYLOAD: Final = 64 << 10
_CLOSE_SECONDS: Final = 30.0
"""A connection being made runs in a thread, which cannot be called back."""


class ImuFeed:
    """The newest reading of an IMU, from an MQTT broker that may come and go.

    An async context manager; while it is open it connects and connects again.

    Args:
        settings: Broker, topic and how old a reading may be.
        base: What ``password_file`` is relative to.
        events: Where `ImuChanged` is told, or None.
        backoff: The waits between two tries to reach the broker.
        timeout: Seconds for the broker to answer.

    Attributes:
        settings: What is in force, see `use`.
        connected: Whether the broker is reached and sends the topic.
        error: Why it is not, in words, or ``""``.
        garbage: Messages that were no reading.
        events: Where `ImuChanged` is told, or None.
    """

    def __init__(
        self,
        settings: ImuSettings | None = None,
        *,
        base: Path = Path(),
        events: EventHub | None = None,
        backoff: Backoff | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.settings = settings or ImuSettings()
        self.connected = False
        self.error = ""
        self.garbage = 0
        self.events = events
        self._base = base
        self._backoff = backoff or Backoff(initial=0.5, maximum=15.0)
        self._timeout = timeout
        self._newest: tuple[Reading, float] | None = None
        self._scope = TaskScope("snapshot-imu")
        self._task: asyncio.Task[None] | None = None
        self._in_turn = asyncio.Lock()

    @property
    def newest(self) -> Reading | None:
        """The newest reading, however old, or None."""
        return None if self._newest is None else self._newest[0]

    def reading(self) -> Reading | None:
        """The newest reading, or None when there is none or it is older than ``settings.max_age``."""
        if self._newest is None:
            return None
        reading, came = self._newest
        return reading if time.monotonic() - came <= self.settings.max_age else None

    async def use(self, settings: ImuSettings) -> None:
        """Put other settings in force; the connection is made anew where they need it."""
        async with self._in_turn:
            before, self.settings = self.settings, settings
            same = before.model_copy(update={"max_age": settings.max_age}) == settings
            if self._task is not None and not same:
                await self._stop()
                self._newest = None
                self._start()

    async def __aenter__(self) -> "ImuFeed":
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._scope.aclose(timeout=_CLOSE_SECONDS + 2 * self._timeout)
        self._task = None

    # -- within ---------------------------------------------------------------------------------

    def _start(self) -> None:
        self._task = self._scope.spawn(self._run(), name="broker")

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await finish(asyncio.wait({self._task}))

    async def _run(self) -> None:
        if self.settings.enabled:
            longest = self._backoff.maximum
            await retry(self._listen, attempts=None, backoff=self._backoff, settled_after=longest)

    async def _listen(self) -> None:
        """Take readings until the connection is lost."""
        settings = self.settings
        try:
            password = await read_secret(settings.password_file, settings.password_env, base=self._base)
            broker = MqttBroker(
                settings.broker,
                settings.port,
                username=settings.username,
                password=password,
                answer_timeout=self._timeout,
            )
            async with connect_mqtt(broker) as client:
                await client.subscribe(settings.topic)
                self._tell(connected=True)
                async for message in client.messages:
                    self._take(message)
                    await asyncio.sleep(0)  # the iterator does not suspend while messages are queued
        except (AsynccamError, OSError, ValueError) as error:
            words = str(error) or type(error).__name__
            self._tell(connected=False, error=words)
            raise ConnectionError(words) from error
        except asyncio.CancelledError:
            self._tell(connected=False)
            raise

    def _take(self, message: MqttMessage) -> None:
        # What the broker has kept for newcomers may be from another day.
        if message.retain:
            return
        reading = parse_reading(message.payload, unix_now())
        if reading is None:
            self.garbage += 1
        else:
            self._newest = reading, time.monotonic()

    def _tell(self, *, connected: bool, error: str = "") -> None:
        changed = (connected, error) != (self.connected, self.error)
        self.connected, self.error = connected, error
        if changed and self.events is not None:
            self.events.emit(ImuChanged(connected=connected, error=error))


def parse_reading(payload: object, at: float) -> Reading | None:
    """A reading from a message's bytes, or None when they are none.

    Args:
        payload: JSON with ``roll``, ``pitch`` and ``yaw``, numbers or strings that are numbers, in degrees.
        at: When it came, Unix seconds.
    """
    if not isinstance(payload, bytes | bytearray | str) or len(payload) > _MAX_PAYLOAD:
        return None
    try:
        found = read_json(payload)
        return Reading(_degrees(found["roll"]), _degrees(found["pitch"]), _degrees(found["yaw"]), at)
    except (ValueError, TypeError, LookupError):
        return None


def _degrees(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("an angle is a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("an angle is finite")
    return number


_START_OF_IMAGE: Final = b"\xff\xd8"


def write_reading(path: Path, reading: Reading) -> bool:
    """Put a reading into a JPEG's EXIF, in one step; blocking, for `on_disk`.

    ``UserComment`` is JSON with ``roll``, ``pitch``, ``yaw`` in degrees and ``timestamp`` in Unix seconds,
    in EXIF's UNICODE encoding. What else the EXIF holds stays.

    Returns:
        Whether it is there; a picture that takes none is left as it is.

    Raises:
        StorageError: The file cannot be read or written.
    """
    with storage_errors("read", path):
        data = path.read_bytes()
    if not data.startswith(_START_OF_IMAGE):  # piexif would take the bytes for the name of a file
        return False
    comment = {"roll": reading.roll, "pitch": reading.pitch, "yaw": reading.yaw, "timestamp": reading.at}
    tagged = io.BytesIO()
    try:
        tags = _tags(data)
        tags["0th"][piexif.ImageIFD.Software] = f"asynccam {VERSION}".encode()
        tags["Exif"][piexif.ExifIFD.UserComment] = piexif.helper.UserComment.dump(
            json.dumps(comment), encoding="unicode"
        )
        piexif.insert(piexif.dump(tags), data, tagged)
    except (ValueError, LookupError, TypeError, struct.error):  # piexif's own words for odd JPEGs
        return False
    with storage_errors("write", path):
        beside = path.with_suffix(".exif")
        beside.write_bytes(tagged.getvalue())
        beside.replace(path)
    return True


def _tags(data: bytes) -> dict[str, Any]:
    """What the camera's own EXIF says; nothing, where that cannot be read."""
    empty: dict[str, Any] = {"0th": {}, "Exif": {}, "GPS": {}, "Interop": {}, "1st": {}, "thumbnail": None}
    with suppress(ValueError, LookupError, TypeError, struct.error):
        empty.update(piexif.load(data))
    return empty
