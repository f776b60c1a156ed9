"""MqttBridge: a session's cameras on an MQTT broker. See docs/mqtt.md."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from asynccam.bridge.commands import Commands
from asynccam.bridge.home_assistant import (
    DISCOVERY_PREFIX,
    CameraDescription,
    birth_topic,
    bridge_entities,
    camera_entities,
    removed_camera_entities,
)
from asynccam.bridge.retained import RetainedMessages
from asynccam.bridge.states import CameraStates
from asynccam.bridge.topics import ALL, KEPT, OFFLINE, ONLINE, Topics, encoded, key_of, this_computer
from asynccam.errors import AsynccamError, PermissionDeniedError, StateError, TimeoutError, UsageError
from asynccam.model.camera import Camera
from asynccam.model.event_json import event_document
from asynccam.model.events import CameraChanged, CameraEvent, CameraFound, Event
from asynccam.model.info import CameraState
from asynccam.net.mqtt import LastWill, MqttBroker, MqttConnection, MqttMessage, stay_connected
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.session import Session
from asynccam.wall_clock import unix_now

_LOG = logging.getLogger(__name__)

_GOODBYE_TIMEOUT: Final = 1.0  # seconds that leaving waits for the broker to take `OFFLINE`
_SYNC_TIMEOUT: Final = 3.0
"""Seconds for retained messages to arrive after the subscription."""
_STATE_TIMEOUT: Final = 3.0
"""Seconds after which a camera without any event is published as unknown."""
_MAX_EVENTS: Final = 4096
"""Events that wait to be published; then their reader waits, and the session's hub counts losses."""


class MqttBridge:
    """Bridge from a session to an MQTT broker: publishes states and events, executes commands.

    ::

        async with Session() as session, MqttBridge(session, MqttBroker("broker.local")):
            ...

    The broker may be unavailable at the start or later: the bridge reconnects, and then publishes the latest
    of everything. Events during the outage are not published later. Retained messages are not commands,
    because they may be stale.

    Args:
        session: Stays the caller's to close, after the bridge.
        broker: Address and credentials.
        topics: Names of the topics.
        discovery: Prefix of Home Assistant's configurations, or None to publish none.
        directory: Parent of takes and pictures that messages ask for.
        commands: Accept commands.
        backoff: Waits between tries to reach the broker.
        shutdown_timeout: Seconds that takes have to end when the bridge closes. What is not done by then is
            finished by the next bridge with this directory, or by `Take.resume`.

    Attributes:
        connects: Count of connections to the broker.
        error: Error that ended the bridge by itself, such as `AuthenticationError`, or None.

    Raises:
        UsageError: ``shutdown_timeout`` is not above 0.
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
        shutdown_timeout: float = 60.0,
    ) -> None:
        if not shutdown_timeout > 0:
            raise UsageError(f"shutdown_timeout must be > 0 seconds, not {shutdown_timeout}")
        self.broker = broker
        self.topics = topics or Topics()
        self.connects = 0
        self.error: Exception | None = None
        self._session = session
        self._discovery = discovery
        self._backoff = backoff
        self._shutdown_timeout = shutdown_timeout
        self._published: dict[str, str] = {}  # key of each camera that was published, by its id
        self._documents: dict[str, dict[str, Any]] = {}  # latest published state of each camera, by key
        self._expected: dict[str, CameraDescription] = {}  # expected cameras that have not answered, by key
        self._client: MqttConnection | None = None
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._scope = TaskScope("mqtt bridge", on_failure=self._failed)
        self._problems: dict[str, str] = {}
        self._retained = RetainedMessages(self.topics, discovery)
        self._events: deque[Event] = deque()
        self._dirty: set[str] = set()
        self._new: set[str] = set()
        self._republish = self._takes_dirty = False
        self._pending = asyncio.Event()
        self._has_room = asyncio.Event()
        self._commands = (
            Commands(
                session, Path(directory), self._publish_result, self._publish_picture, self._takes_changed
            )
            if commands
            else None
        )
        self._states = CameraStates(session, None if self._commands is None else self._commands.recordings)
        self._replayed = asyncio.Event()

    # -- entering and leaving ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._scope.tasks:
            raise StateError("a bridge is entered once")
        self._session.watch_clocks()
        self._scope.spawn(self._follow(), name="events")
        if self._commands is not None:
            self._commands.recordings.start()
        will = LastWill(self.topics.status, OFFLINE)
        connection = stay_connected(self.broker, self._work, will=will, backoff=self._backoff)
        self._scope.spawn(connection, name="connection")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End takes that messages started, publish `OFFLINE` and disconnect; may be called twice."""
        await finish(self._close())

    async def _close(self) -> None:
        if self._commands is not None:
            await self._commands.aclose(timeout=self._shutdown_timeout)
        await self._scope.aclose()

    @property
    def is_connected(self) -> bool:
        """True while the broker is connected."""
        return self._client is not None

    async def wait_connected(self, *, timeout: float | None = None) -> None:
        """Wait until the broker is connected.

        Raises:
            TimeoutError: It was not within ``timeout`` seconds.
            AuthenticationError: The broker refuses the credentials, or a subscription.
        """
        async with deadline(timeout, f"connection to {self.broker.name}"):
            while not self.is_connected:
                if self.error is not None:
                    raise self.error
                self._changed.clear()
                await self._changed.wait()

    async def wait_over(self) -> None:
        """Wait until the bridge ends by itself.

        Raises:
            AuthenticationError: The broker refuses the credentials, or the subscription to commands.
        """
        await self._ended.wait()
        assert self.error is not None
        raise self.error

    # -- the session's events ---------------------------------------------------------------------

    async def _follow(self) -> None:
        """Keep the states up to date, also without a broker; queue events while there is one."""
        with self._session.events.stream(replay=True) as events:
            before = events.waiting
            if not before:
                self._replayed.set()
            async for event in events:
                fresh = not events.replaying
                self._update(event, fresh=fresh)
                before -= not fresh
                if before <= 0:
                    self._replayed.set()
                if fresh and self._client is not None:
                    await self._queue(event)
        raise StateError("the session's events have ended")

    def _update(self, event: Event, *, fresh: bool) -> None:
        self._states.on_event(event, fresh=fresh)
        if isinstance(event, CameraEvent):
            if isinstance(event, CameraFound | CameraChanged):
                self._new.add(event.camera)
            self._dirty.add(event.camera)
        else:
            self._dirty.update(self._session.cameras)  # a take may have changed its phase
        self._pending.set()

    async def _queue(self, event: Event) -> None:
        while len(self._events) >= _MAX_EVENTS and self._client is not None:
            self._has_room.clear()
            await self._has_room.wait()
        self._events.append(event)
        self._pending.set()

    # -- one connection ---------------------------------------------------------------------------

    async def _work(self, client: MqttConnection) -> None:
        try:
            async with TaskScope("mqtt connection", on_failure=lambda name, error: None) as scope:
                jobs = {
                    scope.spawn(self._receive_loop(client), name="messages"),
                    scope.spawn(self._publish_loop(client), name="publish"),
                }
                done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
                for job in done:
                    job.result()
        except asyncio.CancelledError:
            await finish(self._say_goodbye())
            raise
        finally:
            self._client = None
            self._events.clear()
            self._has_room.set()
            self._changed.set()

    async def _publish_loop(self, client: MqttConnection) -> None:
        """Publish everything, and then each change."""
        if self._commands is not None:
            await client.subscribe(self.topics.commands)
        if self._discovery is not None:
            await self._subscribe_optional(client, birth_topic(self._discovery), "restarts of Home Assistant")
        await self._replayed.wait()
        self._client = client
        self.connects += 1
        await self._reconcile(client)
        self._documents.clear()
        self._dirty.clear()
        self._new.clear()
        await self._announce_all()
        await self._publish(self.topics.status, ONLINE, retain=True)
        self._changed.set()
        unsettled = asyncio.get_running_loop().call_later(_STATE_TIMEOUT, self._stop_waiting)
        try:
            while True:
                self._pending.clear()
                await self._publish_pending()
                await self._pending.wait()
        finally:
            unsettled.cancel()

    def _stop_waiting(self) -> None:
        self._states.stop_waiting()
        self._dirty.update(self._session.cameras)
        self._pending.set()

    async def _subscribe_optional(self, client: MqttConnection, topics: str, name: str) -> bool:
        """Subscribe to what the bridge can do without; publish a refusal as a problem."""
        try:
            await client.subscribe(topics)
        except PermissionDeniedError as error:
            self._problems[topics] = f"{name} are not received: {error}"
            _LOG.error("%s", self._problems[topics])
            return False
        self._problems.pop(topics, None)
        return True

    async def _say_goodbye(self) -> None:
        """Publish `OFFLINE`: a broker discards the will of a client that disconnects (MQTT 3.1.1, 3.14.4)."""
        try:
            async with deadline(_GOODBYE_TIMEOUT, "goodbye"):
                await self._publish(self.topics.status, OFFLINE, retain=True)
        except Exception as error:  # noqa: BLE001 - if the connection is lost, the broker publishes the will
            _LOG.debug("no goodbye to %s: %s", self.broker.name, error)

    async def _receive_loop(self, client: MqttConnection) -> None:
        """Receive every message at once; what takes time is done elsewhere."""
        async for message in client.messages:
            self._on_message(message)
        raise StateError("the broker's messages have ended")

    def _on_message(self, message: MqttMessage) -> None:
        if self._discovery is not None and message.topic == birth_topic(self._discovery):
            if message.payload == ONLINE.encode() and not message.retain:
                self._republish = True
                self._pending.set()
            return
        command = self.topics.read_command(message.topic)
        if command is None:
            self._retained.on_message(message)
        elif message.retain:
            _LOG.warning("%s: a retained message is not a command", message.topic)
        elif self._commands is not None:
            self._commands.accept(*command, message.payload)

    # -- retained messages of an earlier bridge ----------------------------------------------

    async def _reconcile(self, client: MqttConnection) -> None:
        """Clear retained messages of unexpected cameras, and note the expected ones that have not answered.

        Only those that an earlier bridge of this prefix, on this computer, can have left are cleared.
        """
        filters = self._retained.filters
        self._retained.begin(token := secrets.token_hex(8))
        if not all(  # a list: a refused subscription does not prevent the next
            [await self._subscribe_optional(client, topics, "retained messages") for topics in filters]
        ):
            self._retained.end()
            return
        try:
            async with deadline(_SYNC_TIMEOUT, "echo of the broker"):
                await self._publish(self.topics.sync, token)
                await self._retained.complete.wait()
        except TimeoutError as error:
            _LOG.warning("%s: what is retained may not have been seen whole: %s", self.broker.name, error)
        self._retained.end()
        for topics in filters:
            await client.unsubscribe(topics)
        here = {key_of(camera) for camera in self._session.cameras}
        self._expected.clear()
        for key, state in self._retained.states().items():
            place = [word for word in (state.get("place"), state.get("address")) if isinstance(word, str)]
            description = CameraDescription.from_state(key, state)
            if key in here or description is None or key != key_of(description.id):
                continue
            if self._session.expects(description.id, *place):
                self._expected[key] = description
        keep = self._wanted_configs()
        keys = here | self._expected.keys()
        for topic in self._retained.stale_topics(keys, keep):
            await self._publish(topic, "", retain=True)

    def _wanted_configs(self) -> set[str]:
        if self._discovery is None:
            return set()
        topics = set(bridge_entities(self.topics, self._discovery))
        known = [CameraDescription.of(camera) for camera in self._session.cameras.values()]
        for description in (*known, *self._expected.values()):
            entities = camera_entities(description, self.topics, self._discovery)
            topics |= {topic for topic, config in entities.items() if config}
        return topics

    # -- publishing -------------------------------------------------------------------------------

    async def _publish_pending(self) -> None:
        """Publish everything that waits, states before events."""
        if self._republish:
            self._republish = False
            self._documents.clear()
            await self._announce_all()
        if self._takes_dirty:
            self._takes_dirty = False
            await self._publish_take()
            await self._publish_notice()
        while self._dirty or self._new:
            camera = (self._dirty or self._new).pop()
            await self._publish_camera(camera)
        for _ in range(len(self._events)):
            await self._publish_event(self._events.popleft())
            self._has_room.set()
            if self._dirty:  # a state that changed meanwhile precedes the next event
                self._pending.set()
                break
        if self._events or self._dirty:
            self._pending.set()

    async def _publish_camera(self, camera: str) -> None:
        known = self._session.cameras.get(camera)
        if known is None:
            self._new.discard(camera)
            await self._retract(camera)
        elif camera not in self._published or camera in self._new:
            self._new.discard(camera)
            await self._announce(known)
        else:
            await self._publish_state(known)

    async def _publish_event(self, event: Event) -> None:
        topic = self.topics.event
        if isinstance(event, CameraEvent):
            topic = self.topics.of(key_of(event.camera), "event")
        await self._publish(topic, encoded(event_document(event)))

    async def _announce_all(self) -> None:
        if self._discovery is not None:
            await self._publish_all(bridge_entities(self.topics, self._discovery))
        await self._publish_take()
        await self._publish_notice()
        for key, description in self._expected.items():
            await self._publish_entities(description)
            await self._publish(self.topics.of(key, "availability"), OFFLINE, retain=True)
        for camera in list(self._session.cameras.values()):
            await self._announce(camera)

    async def _announce(self, camera: Camera) -> None:
        """Publish a camera's entities and its state."""
        key = key_of(camera.id)
        self._published[camera.id] = key
        self._expected.pop(key, None)
        await self._publish_entities(CameraDescription.of(camera))
        await self._publish_state(camera)

    async def _publish_entities(self, description: CameraDescription) -> None:
        if self._discovery is not None:
            await self._publish_all(camera_entities(description, self.topics, self._discovery))

    async def _retract(self, camera: str) -> None:
        """Clear a camera's retained messages."""
        key = self._published.pop(camera, None)
        self._states.forget(camera)
        if key is None:
            return
        self._documents.pop(key, None)
        for kind in KEPT:
            await self._publish(self.topics.of(key, kind), "", retain=True)
        if self._discovery is not None:
            await self._publish_all(removed_camera_entities(key, self.topics, self._discovery))

    async def _publish_state(self, camera: Camera) -> None:
        """Publish a camera's state, if it is known and has changed."""
        key, info = key_of(camera.id), camera.info
        state = self._states.state_of(camera.id)
        if state is None:  # unknown yet: the retained state stays, marked as unavailable
            await self._publish(self.topics.of(key, "availability"), OFFLINE, retain=True)
            return
        document = {
            **state,
            "id": info.id,
            "name": info.name,
            "system": info.system,
            "model": info.model,
            "serial": info.serial,
            "address": info.address,
            "place": self._session.place_of(info.id),
            "features": sorted(key.name for key in camera.features),
            "host": this_computer(),
        }
        if self._documents.get(key) == document:
            return
        self._documents[key] = document
        there = OFFLINE if state["state"] == CameraState.UNAVAILABLE.value else ONLINE
        payload = encoded({**document, "at": round(unix_now(), 3)})
        await self._publish(self.topics.of(key, "state"), payload, retain=True)
        await self._publish(self.topics.of(key, "availability"), there, retain=True)

    # -- takes and commands -----------------------------------------------------------------------

    def _takes_changed(self) -> None:
        self._takes_dirty = True
        self._dirty.update(self._session.cameras)
        self._pending.set()

    async def _publish_take(self) -> None:
        take = self._commands.recordings.takes.get(ALL) if self._commands is not None else None
        name = take.name if take is not None else None
        left = [] if self._commands is None else list(self._commands.recordings.interrupted.values())
        several = [entry.take.name for entry in left if len(entry.take.cameras) > 1 and entry.take.devices]
        document = {"running": take is not None or bool(several), "name": name}
        if take is None and several:
            document |= {"name": several[0], "interrupted": True}
        await self._publish(self.topics.take, encoded(document), retain=True)

    async def _publish_notice(self) -> None:
        """Publish problems for a person to solve."""
        problems = [{"what": "subscription", "message": problem} for problem in self._problems.values()]
        if self._commands is not None:
            problems += self._commands.recordings.notices()
        await self._publish(self.topics.notice, encoded({"problems": problems}), retain=True)

    async def _publish_result(self, key: str, result: Mapping[str, Any]) -> None:
        await self._publish_if_possible(self.topics.of(key, "result"), encoded(dict(result)))

    async def _publish_picture(self, key: str, picture: bytes) -> None:
        await self._publish_if_possible(self.topics.of(key, "picture"), picture, retain=True)

    async def _publish_if_possible(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish from outside the connection's own tasks; without a broker it is lost."""
        try:
            await self._publish(topic, payload, retain=retain)
        except AsynccamError as error:
            _LOG.warning("%s was not published: %s", topic, error)

    async def _publish_all(self, messages: Mapping[str, str]) -> None:
        for topic, payload in messages.items():
            await self._publish(topic, payload, retain=True)

    async def _publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        if self._client is None:
            raise StateError(f"{self.broker.name} is not connected")
        await self._client.publish(topic, payload, retain=retain)

    def _failed(self, name: str, error: Exception) -> None:
        self.error = error
        self._ended.set()
        self._changed.set()
        _LOG.error("the bridge to %s has ended: %s", self.broker.name, error)
