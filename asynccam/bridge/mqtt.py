"""MqttBridge: a session's cameras on an MQTT broker, states and events out, commands in. See docs/mqtt.md."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from asynccam.bridge.commands import Commands
from asynccam.bridge.home_assistant import (
    DISCOVERY_PREFIX,
    birth_topic,
    camera_entities,
    no_camera_entities,
    take_entity,
)
from asynccam.bridge.topics import ALL, OFFLINE, ONLINE, Topics, encoded, key_of
from asynccam.errors import AsynccamError, StateError
from asynccam.model.camera import Camera
from asynccam.model.event_json import event_document
from asynccam.model.events import (
    CameraChanged,
    CameraEvent,
    CameraFound,
    CameraLost,
    CameraStateChanged,
    Event,
    RecordingStarted,
    RecordingStopped,
)
from asynccam.model.info import CameraState
from asynccam.net.mqtt import LastWill, MqttBroker, publish, stay_connected, subscribe
from asynccam.runtime.backoff import Backoff
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.session import Session
from asynccam.wall_clock import unix_now

if TYPE_CHECKING:
    from aiomqtt import Client, Message

_LOG = logging.getLogger(__name__)

_GOODBYE_SECONDS = 2.0


class MqttBridge:
    """Publishes what a session's cameras do, and carries out what messages ask for.

    ::

        async with Session() as session, MqttBridge(session, MqttBroker("broker.local")):
            ...

    The broker may be away at the start and go at any time: the bridge comes back, and then tells the
    latest of everything. Events that happened meanwhile are not told late. Commands are never taken
    from retained messages, which may be older than the wish they once were.

    Args:
        session: Whose cameras; stays the caller's to close, after the bridge.
        broker: Where, and as whom.
        topics: The names of the topics.
        discovery: Prefix under which Home Assistant looks for configurations, or None for none of them.
        directory: Where takes and pictures that messages ask for are kept.
        commands: Whether messages may command anything.
        backoff: The waits between tries to reach the broker.

    Attributes:
        connects: How often the broker was reached.
        error: What ended the bridge by itself: `AuthenticationError` above all; or None.
    """

    def __init__(
        self,
        session: Session,
        broker: MqttBroker,
        *,
        topics: Topics | None = None,
        discovery: str | None = DISCOVERY_PREFIX,
        directory: str | Path = "takes",
        commands: bool = True,
        backoff: Backoff | None = None,
    ) -> None:
        self.broker = broker
        self.topics = topics or Topics()
        self.connects = 0
        self.error: Exception | None = None
        self._session = session
        self._discovery = discovery
        self._backoff = backoff
        self._told: dict[str, str] = {}  # key of each camera that was introduced, by its id
        self._states: dict[str, dict[str, Any]] = {}
        self._client: Client | None = None
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._scope = TaskScope("mqtt bridge", on_failure=self._failed)
        self._commands = (
            Commands(session, Path(directory), self._tell_result, self._show, self._takes_changed)
            if commands
            else None
        )
        self._takes_told = asyncio.Event()

    # -- its life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._scope.tasks:
            raise StateError("a bridge is entered once")
        self._session.watch_clocks()
        self._scope.spawn(self._run(), name="connection")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End takes that messages began, say goodbye to the broker, and leave; harmless when called twice."""
        await finish(self._close())

    async def _close(self) -> None:
        if self._commands is not None:
            await self._commands.aclose()
        await self._scope.aclose()

    @property
    def is_connected(self) -> bool:
        """Whether the broker is reached now."""
        return self._client is not None

    async def wait_connected(self, *, timeout: float | None = None) -> None:
        """Wait until the broker is reached.

        Raises:
            TimeoutError: It was not.
            AuthenticationError: It refuses the credentials.
        """
        async with deadline(timeout, f"connection to {self.broker.name}"):
            while not self.is_connected:
                if self.error is not None:
                    raise self.error
                self._changed.clear()
                await self._changed.wait()

    async def wait_over(self) -> None:
        """Wait until the bridge ends by itself, which it does for one reason.

        Raises:
            AuthenticationError: The broker refuses the credentials.
        """
        await self._over.wait()
        assert self.error is not None
        raise self.error

    # -- one connection ---------------------------------------------------------------------------

    async def _run(self) -> None:
        will = LastWill(self.topics.status, OFFLINE)
        await stay_connected(self.broker, self._work, will=will, backoff=self._backoff)

    async def _work(self, client: "Client") -> None:
        try:
            if self._commands is not None:
                await subscribe(client, self.topics.commands)
            if self._discovery is not None:
                await subscribe(client, birth_topic(self._discovery))
            self._client = client
            await self._introduce_all()
            await self._publish(self.topics.status, ONLINE, retain=True)
            self.connects += 1
            self._changed.set()
            async with TaskScope("mqtt connection", on_failure=lambda name, error: None) as scope:
                jobs = {
                    scope.spawn(self._tell_events(), name="events"),
                    scope.spawn(self._tell_takes(), name="takes"),
                    scope.spawn(self._listen(client), name="messages"),
                }
                done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
                for job in done:
                    job.result()
        except asyncio.CancelledError:
            await finish(self._say_goodbye())
            raise
        finally:
            self._client = None
            self._changed.set()

    async def _say_goodbye(self) -> None:
        """The will is published only when a client vanishes; who leaves in order says it himself."""
        try:
            async with deadline(_GOODBYE_SECONDS, "goodbye"):
                await self._publish(self.topics.status, OFFLINE, retain=True)
        except Exception as error:  # noqa: BLE001 - the broker may be gone, and then its will is carried out
            _LOG.debug("no goodbye to %s: %s", self.broker.name, error)

    async def _listen(self, client: "Client") -> None:
        async for message in client.messages:
            await self._heed(message)
            await asyncio.sleep(0)  # aiomqtt does not suspend while messages are queued
        raise StateError("aiomqtt ended its messages")

    async def _heed(self, message: "Message") -> None:
        topic = str(message.topic)
        if self._discovery is not None and topic == birth_topic(self._discovery):
            if message.payload == ONLINE.encode() and not message.retain:
                await self._introduce_all()
            return
        command = self.topics.read_command(topic)
        if command is None or self._commands is None:
            return
        if message.retain:
            _LOG.warning("%s: a retained message is no command", topic)
            return
        self._commands.accept(*command, message.payload)

    # -- what is told -----------------------------------------------------------------------------

    async def _introduce_all(self) -> None:
        if self._discovery is not None:
            await self._publish_all(take_entity(self.topics, self._discovery))
        await self._tell_take()
        for camera in list(self._session.cameras.values()):
            await self._introduce(camera)

    async def _introduce(self, camera: Camera) -> None:
        """Who a camera is, what it can do, and how it is."""
        key = key_of(camera.id)
        self._told[camera.id] = key
        if self._discovery is not None:
            await self._publish_all(camera_entities(camera, self.topics, self._discovery))
        await self._tell_state(camera.id)

    async def _forget(self, camera: str) -> None:
        """Take a camera off the broker."""
        key = self._told.pop(camera, None)
        self._states.pop(camera, None)
        if key is None:
            return
        for what in ("state", "availability", "picture"):
            await self._publish(self.topics.of(key, what), "", retain=True)
        if self._discovery is not None:
            await self._publish_all(no_camera_entities(key, self._discovery))

    async def _tell_events(self) -> None:
        with self._session.events.events(replay=True) as events:
            async for event in events:
                if isinstance(event, CameraEvent):
                    await self._tell_camera_event(event, fresh=not events.replaying)
                else:
                    await self._publish(self.topics.event, encoded(event_document(event)))
        raise StateError("the session's events have ended")

    async def _tell_camera_event(self, event: CameraEvent, *, fresh: bool) -> None:
        state = _state_after(event)
        if state is not None:
            self._states[event.camera] = {"state": state.value, "reason": getattr(event, "reason", "")}
        camera = self._session.cameras.get(event.camera)
        if camera is None:
            await self._forget(event.camera)
        elif event.camera not in self._told or isinstance(event, CameraFound | CameraChanged):
            await self._introduce(camera)
        elif state is not None:
            await self._tell_state(event.camera)
        if fresh:
            await self._publish(self.topics.of(key_of(event.camera), "event"), encoded(event_document(event)))

    async def _tell_state(self, camera: str) -> None:
        known = self._session.cameras.get(camera)
        if known is None:
            return
        state = self._states.get(camera, {"state": CameraState.UNKNOWN.value, "reason": ""})
        info = known.info
        document = {
            **state,
            "id": info.id,
            "name": info.name,
            "system": info.system,
            "address": info.address,
            "features": sorted(key.name for key in known.features),
            "at": round(unix_now(), 3),
        }
        key = key_of(camera)
        there = OFFLINE if state["state"] == CameraState.AWAY.value else ONLINE
        await self._publish(self.topics.of(key, "state"), encoded(document), retain=True)
        await self._publish(self.topics.of(key, "availability"), there, retain=True)

    # -- takes and commands -----------------------------------------------------------------------

    def _takes_changed(self) -> None:
        self._takes_told.set()

    async def _tell_takes(self) -> None:
        while True:
            await self._takes_told.wait()
            self._takes_told.clear()
            await self._tell_take()

    async def _tell_take(self) -> None:
        take = self._commands.takes.get(ALL) if self._commands is not None else None
        document = {"running": take is not None, "name": take.name if take is not None else None}
        await self._publish(self.topics.take, encoded(document), retain=True)

    async def _tell_result(self, key: str, result: Mapping[str, Any]) -> None:
        await self._publish_if_possible(self.topics.of(key, "result"), encoded(dict(result)))

    async def _show(self, key: str, picture: bytes) -> None:
        await self._publish_if_possible(self.topics.of(key, "picture"), picture, retain=True)

    async def _publish_if_possible(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """For what does not come from the connection's own tasks: with no broker, nobody hears it."""
        from aiomqtt import MqttError

        try:
            await self._publish(topic, payload, retain=retain)
        except (MqttError, AsynccamError) as error:
            _LOG.warning("%s was not told: %s", topic, error)

    async def _publish_all(self, messages: Mapping[str, str]) -> None:
        for topic, payload in messages.items():
            await self._publish(topic, payload, retain=True)

    async def _publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        if self._client is None:
            raise StateError(f"{self.broker.name} is not connected")
        await publish(self._client, topic, payload, retain=retain)

    def _failed(self, name: str, error: Exception) -> None:
        self.error = error
        self._over.set()
        self._changed.set()
        _LOG.error("the bridge to %s has ended: %s", self.broker.name, error)


def _state_after(event: Event) -> CameraState | None:
    """The state of a camera after an event, or None if that says nothing of it."""
    match event:
        case CameraStateChanged(state=state):
            return state
        case CameraLost():
            return CameraState.AWAY
        case RecordingStarted():
            return CameraState.RECORDING
        case CameraFound() | RecordingStopped():
            return CameraState.READY
        case _:
            return None
