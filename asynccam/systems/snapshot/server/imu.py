"""IMU readings: received by MQTT, written into pictures as EXIF. See docs/protocols/snapshot.md."""

import asyncio
import io
import json
import math
import struct
import time
from contextlib import suppress
from pathlib import Path
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
from asynccam.systems.snapshot.server.settings import ImuSettings, read_secret
from asynccam.wall_clock import unix_now

_START_OF_IMAGE: Final = b"\xff\xd8"
_MAX_PAYLOAD: Final = 64 << 10
_CLOSE_SECONDS: Final = 30.0
"""Connecting runs in a thread, which cannot be cancelled."""


class ImuFeed:
    """Newest reading of an IMU from an MQTT broker; an async context manager that keeps reconnecting.

    Args:
        settings: Broker, topic and maximum age of a reading.
        base: Directory of a relative ``password_file``.
        events: Where `ImuChanged` is emitted, or None.
        backoff: Delays between attempts to connect.
        timeout: Seconds for a response of the broker.

    Attributes:
        settings: In force, see `use`.
        connected: Whether the topic is subscribed.
        error: Why it is not connected, or ``""``.
        garbage: Number of messages that were not readings.
        events: Where `ImuChanged` is emitted, or None.
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
        self._lock = asyncio.Lock()

    @property
    def newest(self) -> Reading | None:
        """The newest reading, however old, or None."""
        return None if self._newest is None else self._newest[0]

    def reading(self) -> Reading | None:
        """Return the newest reading, or None if it is older than ``settings.max_age``."""
        if self._newest is None:
            return None
        reading, received = self._newest
        return reading if time.monotonic() - received <= self.settings.max_age else None

    async def use(self, settings: ImuSettings) -> None:
        """Put other settings in force; reconnect if they require it."""
        async with self._lock:
            before, self.settings = self.settings, settings
            same = before.model_copy(update={"max_age": settings.max_age}) == settings
            if self._task is not None and not same:
                self._task.cancel()
                await finish(asyncio.wait({self._task}))
                self._newest = None
                self._start()

    async def __aenter__(self) -> "ImuFeed":
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._scope.aclose(timeout=_CLOSE_SECONDS + 2 * self._timeout)
        self._task = None

    def _start(self) -> None:
        self._task = self._scope.spawn(self._run(), name="broker")

    async def _run(self) -> None:
        if self.settings.enabled:
            longest = self._backoff.maximum
            await retry(self._listen, attempts=None, backoff=self._backoff, settled_after=longest)

    async def _listen(self) -> None:
        """Receive readings until the connection is lost."""
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
                self._set_connected(connected=True)
                async for message in client.messages:
                    self._receive(message)
                    await asyncio.sleep(0)  # the iterator does not suspend while messages are queued
        except (AsynccamError, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            self._set_connected(connected=False, error=reason)
            raise ConnectionError(reason) from error
        except asyncio.CancelledError:
            self._set_connected(connected=False)
            raise

    def _receive(self, message: MqttMessage) -> None:
        # MQTT 3.1.1 3.3.1.3: a retained message may be of any age.
        if message.retain:
            return
        reading = parse_reading(message.payload, unix_now())
        if reading is None:
            self.garbage += 1
        else:
            self._newest = reading, time.monotonic()

    def _set_connected(self, *, connected: bool, error: str = "") -> None:
        changed = (connected, error) != (self.connected, self.error)
        self.connected, self.error = connected, error
        if changed and self.events is not None:
            self.events.emit(ImuChanged(connected=connected, error=error))


def parse_reading(payload: object, at: float) -> Reading | None:
    """Parse a message received ``at`` (Unix seconds), or return None if it is not a reading.

    A reading is JSON with ``roll``, ``pitch`` and ``yaw`` in degrees, as numbers or strings.
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
        raise TypeError("an angle must be a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("an angle must be finite")
    return number


def write_reading(path: Path, reading: Reading) -> bool:
    """Write a reading into a JPEG's EXIF atomically, unless the picture cannot hold it; blocking.

    ``UserComment`` is JSON with ``roll``, ``pitch``, ``yaw`` in degrees and ``timestamp`` in Unix seconds,
    in EXIF's UNICODE encoding. All other EXIF data is kept.

    Raises:
        StorageError: The file cannot be read or written.
    """
    with storage_errors("read", path):
        data = path.read_bytes()
    if not data.startswith(_START_OF_IMAGE):  # piexif would take the bytes for a file name
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
    except (ValueError, LookupError, TypeError, struct.error):  # raised by piexif for unusual JPEGs
        return False
    with storage_errors("write", path):
        beside = path.with_suffix(".exif")
        beside.write_bytes(tagged.getvalue())
        beside.replace(path)
    return True


def _tags(data: bytes) -> dict[str, Any]:
    """Return the camera's own EXIF data, or none if it cannot be read."""
    empty: dict[str, Any] = {"0th": {}, "Exif": {}, "GPS": {}, "Interop": {}, "1st": {}, "thumbnail": None}
    with suppress(ValueError, LookupError, TypeError, struct.error):
        empty.update(piexif.load(data))
    return empty
