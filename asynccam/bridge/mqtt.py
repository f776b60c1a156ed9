"""MqttBridge: a session's cameras on an MQTT broker, states and events out, commands in. See docs/mqtt.md."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from asynccam.bridge.commands import Commands
from asynccam.bridge.home_assistant import (
    DISCOVERY_PREFIX,
    Portrait,
    birth_topic,
    bridge_entities,
    camera_entities,
    no_camera_entities,
)
from asynccam.bridge.retained import Retained
from asynccam.bridge.states import States
from asynccam.bridge.topics import ALL, OFFLINE, ONLINE, Topics, encoded, key_of, this_computer
from asynccam.errors import AsynccamError, PermissionDeniedError, StateError, TimeoutError, UsageError
from asynccam.model.camera import Camera
from asynccam.model.event_json import event_document
from asynccam.model.events import CameraChanged, CameraEvent, CameraFound, Event
from asynccam.model.info import CameraState
from asynccam.net.mqtt import (
    LastWill,
    MqttBroker,
    MqttConnection,
    MqttMessage,
    stay_connected,
)
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.session import Session
from asynccam.wall_clock import unix_now

_LOG = logging.getLogger(__name__)

_GOODBYE_SECONDS: Final = 1.0
_SYNC_SECONDS: Final = 3.0
"""Seconds for what is retained to arrive after it was subscribed to."""
_UNKNOWN_SECONDS: Final = 3.0
"""Seconds after which a camera of which nothing was heard is told as it is: its state is not known."""
_MOST_EVENTS: Final = 4096
"""Events that wait to be told; beyond, their reader waits, and the session's hub counts what it loses."""


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
        shutdown_timeout: Seconds that takes have to end in order when the bridge leaves. What is not done by
            then is finished by the next bridge with this directory, or by `Take.resume`.

    Attributes:
        connects: How often the broker was reached.
        error: What ended the bridge by itself: `AuthenticationError` above all; or None.

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
        self._told: dict[str, str] = {}  # key of each camera that was introduced, by its id
        self._documents: dict[str, dict[str, Any]] = {}  # what was told last of each camera, by key
        self._known_of_old: dict[str, Portrait] = {}  # expected cameras that have not answered, by key
        self._client: MqttConnection | None = None
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._scope = TaskScope("mqtt bridge", on_failure=self._failed)
        self._problems: dict[str, str] = {}
        self._retained = Retained(self.topics, discovery)
        self._events: deque[Event] = deque()
        self._dirty: set[str] = set()
        self._new: set[str] = set()
        self._all_new = self._takes_moved = False
        self._to_tell = asyncio.Event()
        self._room = asyncio.Event()
        self._commands = (
            Commands(session, Path(directory), self._tell_result, self._show, self._takes_changed)
            if commands
            else None
        )
        self._states = States(session, None if self._commands is None else self._commands.recordings)
        self._replayed = asyncio.Event()

    # -- its life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._scope.tasks:
            raise StateError("a bridge is entered once")
        self._session.watch_clocks()
        self._scope.spawn(self._follow(), name="events")
        if self._commands is not None:
            self._commands.start()
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
            await self._commands.aclose(timeout=self._shutdown_timeout)
        await self._scope.aclose()

    @property
    def is_connected(self) -> bool:
        """Whether the broker is reached now."""
        return self._client is not None

    async def wait_connected(self, *, timeout: float | None = None) -> None:
        """Wait until the broker is reached.

        Raises:
            TimeoutError: It was not.
            AuthenticationError: It refuses the credentials, or a subscription.
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
            AuthenticationError: The broker refuses the credentials, or the subscription to commands.
        """
        await self._over.wait()
        assert self.error is not None
        raise self.error

    # -- what happens in the session --------------------------------------------------------------

    async def _follow(self) -> None:
        """Keep the states up to date, with or without a broker; events are told while there is one."""
        with self._session.events.stream(replay=True) as events:
            before = events.waiting
            if not before:
                self._replayed.set()
            async for event in events:
                fresh = not events.replaying
                self._note(event, fresh=fresh)
                before -= not fresh
                if before <= 0:
                    self._replayed.set()
                if fresh and self._client is not None:
                    await self._queue(event)
        raise StateError("the session's events have ended")

    def _note(self, event: Event, *, fresh: bool) -> None:
        self._states.heard(event, fresh=fresh)
        if isinstance(event, CameraEvent):
            if isinstance(event, CameraFound | CameraChanged):
                self._new.add(event.camera)
            self._dirty.add(event.camera)
        else:
            self._dirty.update(self._session.cameras)  # a take may have moved on
        self._to_tell.set()

    async def _queue(self, event: Event) -> None:
        while len(self._events) >= _MOST_EVENTS and self._client is not None:
            self._room.clear()
            await self._room.wait()
        self._events.append(event)
        self._to_tell.set()

    # -- one connection ---------------------------------------------------------------------------

    async def _run(self) -> None:
        will = LastWill(self.topics.status, OFFLINE)
        await stay_connected(self.broker, self._work, will=will, backoff=self._backoff)

    async def _work(self, client: MqttConnection) -> None:
        try:
            async with TaskScope("mqtt connection", on_failure=lambda name, error: None) as scope:
                jobs = {
                    scope.spawn(self._listen(client), name="messages"),
                    scope.spawn(self._speak(client), name="publish"),
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
            self._room.set()
            self._changed.set()

    async def _speak(self, client: MqttConnection) -> None:
        """Say hello, and then tell what happens."""
        if self._commands is not None:
            await client.subscribe(self.topics.commands)
        if self._discovery is not None:
            await self._may_subscribe(client, birth_topic(self._discovery), "restarts of Home Assistant")
        await self._replayed.wait()
        self._client = client
        await self._reconcile(client)
        self._documents.clear()
        self._dirty.clear()
        self._new.clear()
        await self._introduce_all()
        await self._publish(self.topics.status, ONLINE, retain=True)
        self.connects += 1
        self._changed.set()
        unsettled = asyncio.get_running_loop().call_later(_UNKNOWN_SECONDS, self._settle)
        try:
            while True:
                self._to_tell.clear()
                await self._tell_what_is_new()
                await self._to_tell.wait()
        finally:
            unsettled.cancel()

    def _settle(self) -> None:
        self._states.settle()
        self._dirty.update(self._session.cameras)
        self._to_tell.set()

    async def _may_subscribe(self, client: MqttConnection, topics: str, what: str) -> bool:
        """Subscribe to what the bridge can do without; a refusal is a problem that is told."""
        try:
            await client.subscribe(topics)
        except PermissionDeniedError as error:
            self._problems[topics] = f"{what} are not heard: {error}"
            _LOG.error("%s", self._problems[topics])
            return False
        self._problems.pop(topics, None)
        return True

    async def _say_goodbye(self) -> None:
        """The will is published only when a client vanishes; who leaves in order says it himself."""
        try:
            async with deadline(_GOODBYE_SECONDS, "goodbye"):
                await self._publish(self.topics.status, OFFLINE, retain=True)
        except Exception as error:  # noqa: BLE001 - the broker may be gone, and then its will is carried out
            _LOG.debug("no goodbye to %s: %s", self.broker.name, error)

    async def _listen(self, client: MqttConnection) -> None:
        """Take every message at once: whatever takes time is left to others."""
        async for message in client.messages:
            self._heed(message)
        raise StateError("the broker's messages have ended")

    def _heed(self, message: MqttMessage) -> None:
        if self._discovery is not None and message.topic == birth_topic(self._discovery):
            if message.payload == ONLINE.encode() and not message.retain:
                self._all_new = True
                self._to_tell.set()
            return
        command = self.topics.read_command(message.topic)
        if command is None:
            self._retained.heard(message)
        elif message.retain:
            _LOG.warning("%s: a retained message is not a command", message.topic)
        elif self._commands is not None:
            self._commands.accept(*command, message.payload)

    # -- what an earlier bridge has left on the broker ----------------------------------------------

    async def _reconcile(self, client: MqttConnection) -> None:
        """Take away what is retained of cameras that are not expected, and mark those that do not answer.

        Only what an earlier bridge of this prefix, on this computer, can have left is touched.
        """
        filters = self._retained.filters
        self._retained.begin(token := secrets.token_hex(8))
        if not all([await self._may_subscribe(client, one, "leftovers on the broker") for one in filters]):
            self._retained.end()
            return
        try:
            async with deadline(_SYNC_SECONDS, "echo of the broker"):
                await self._publish(self.topics.sync, token)
                await self._retained.complete.wait()
        except TimeoutError as error:
            _LOG.warning("%s: what is retained may not have been seen whole: %s", self.broker.name, error)
        self._retained.end()
        for one in filters:
            await client.unsubscribe(one)
        here = {key_of(camera) for camera in self._session.cameras}
        self._known_of_old.clear()
        for key, state in self._retained.states().items():
            place = [word for word in (state.get("place"), state.get("address")) if isinstance(word, str)]
            portrait = Portrait.kept(key, state)
            if key in here or portrait is None or key != key_of(portrait.id):
                continue
            if self._session.expects(portrait.id, *place):
                self._known_of_old[key] = portrait
        keep = self._wanted_configs()
        keys = here | self._known_of_old.keys()
        for topic in self._retained.ghosts(keys, keep):
            await self._publish(topic, "", retain=True)

    def _wanted_configs(self) -> set[str]:
        if self._discovery is None:
            return set()
        topics = set(bridge_entities(self.topics, self._discovery))
        known = [Portrait.of(camera) for camera in self._session.cameras.values()]
        for portrait in (*known, *self._known_of_old.values()):
            entities = camera_entities(portrait, self.topics, self._discovery)
            topics |= {topic for topic, config in entities.items() if config}
        return topics

    # -- what is told -----------------------------------------------------------------------------

    async def _tell_what_is_new(self) -> None:
        """Tell everything that waits, states before events."""
        if self._all_new:
            self._all_new = False
            self._documents.clear()
            await self._introduce_all()
        if self._takes_moved:
            self._takes_moved = False
            await self._tell_take()
            await self._tell_notice()
        while self._dirty or self._new:
            camera = (self._dirty or self._new).pop()
            await self._tell_camera(camera)
        for _ in range(len(self._events)):
            await self._tell_event(self._events.popleft())
            self._room.set()
            if self._dirty:
                self._to_tell.set()
                break
        if self._events or self._dirty:
            self._to_tell.set()

    async def _tell_camera(self, camera: str) -> None:
        known = self._session.cameras.get(camera)
        if known is None:
            self._new.discard(camera)
            await self._forget(camera)
        elif camera not in self._told or camera in self._new:
            self._new.discard(camera)
            await self._introduce(known)
        else:
            await self._tell_state(known)

    async def _tell_event(self, event: Event) -> None:
        topic = self.topics.event
        if isinstance(event, CameraEvent):
            topic = self.topics.of(key_of(event.camera), "event")
        await self._publish(topic, encoded(event_document(event)))

    async def _introduce_all(self) -> None:
        if self._discovery is not None:
            await self._publish_all(bridge_entities(self.topics, self._discovery))
        await self._tell_take()
        await self._tell_notice()
        for key, portrait in self._known_of_old.items():
            if self._discovery is not None:
                await self._publish_all(camera_entities(portrait, self.topics, self._discovery))
            await self._publish(self.topics.of(key, "availability"), OFFLINE, retain=True)
        for camera in list(self._session.cameras.values()):
            await self._introduce(camera)

    async def _introduce(self, camera: Camera) -> None:
        """Who a camera is, what it can do, and how it is."""
        key = key_of(camera.id)
        self._told[camera.id] = key
        self._known_of_old.pop(key, None)
        if self._discovery is not None:
            await self._publish_all(camera_entities(Portrait.of(camera), self.topics, self._discovery))
        await self._tell_state(camera)

    async def _forget(self, camera: str) -> None:
        """Take a camera off the broker."""
        key = self._told.pop(camera, None)
        self._states.forget(camera)
        if key is None:
            return
        self._documents.pop(key, None)
        for what in ("state", "availability", "picture"):
            await self._publish(self.topics.of(key, what), "", retain=True)
        if self._discovery is not None:
            await self._publish_all(no_camera_entities(key, self.topics, self._discovery))

    async def _tell_state(self, camera: Camera) -> None:
        """Tell a camera's state, if it is known and another one than was told last."""
        key, info = key_of(camera.id), camera.info
        state = self._states.of(camera.id)
        if state is None:  # nothing is known yet, so what is retained stays, and is not taken for true
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
        told = encoded({**document, "at": round(unix_now(), 3)})
        await self._publish(self.topics.of(key, "state"), told, retain=True)
        await self._publish(self.topics.of(key, "availability"), there, retain=True)

    # -- takes and commands -----------------------------------------------------------------------

    def _takes_changed(self) -> None:
        self._takes_moved = True
        self._dirty.update(self._session.cameras)
        self._to_tell.set()

    async def _tell_take(self) -> None:
        take = self._commands.recordings.takes.get(ALL) if self._commands is not None else None
        name = take.name if take is not None else None
        left = [] if self._commands is None else list(self._commands.recordings.interrupted.values())
        several = [one.take.name for one in left if len(one.take.cameras) > 1 and one.take.devices]
        document = {"running": take is not None or bool(several), "name": name}
        if take is None and several:
            document |= {"name": several[0], "interrupted": True}
        await self._publish(self.topics.take, encoded(document), retain=True)

    async def _tell_notice(self) -> None:
        """Tell what a person has to look after."""
        problems = [{"what": "subscription", "message": words} for words in self._problems.values()]
        if self._commands is not None:
            problems += self._commands.recordings.notices()
        await self._publish(self.topics.notice, encoded({"problems": problems}), retain=True)

    async def _tell_result(self, key: str, result: Mapping[str, Any]) -> None:
        await self._publish_if_possible(self.topics.of(key, "result"), encoded(dict(result)))

    async def _show(self, key: str, picture: bytes) -> None:
        await self._publish_if_possible(self.topics.of(key, "picture"), picture, retain=True)

    async def _publish_if_possible(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """For what does not come from the connection's own tasks: with no broker, nobody hears it."""
        try:
            await self._publish(topic, payload, retain=retain)
        except AsynccamError as error:
            _LOG.warning("%s was not told: %s", topic, error)

    async def _publish_all(self, messages: Mapping[str, str]) -> None:
        for topic, payload in messages.items():
            await self._publish(topic, payload, retain=True)

    async def _publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        if self._client is None:
            raise StateError(f"{self.broker.name} is not connected")
        await self._client.publish(topic, payload, retain=retain)

    def _failed(self, name: str, error: Exception) -> None:
        self.error = error
        self._over.set()
        self._changed.set()
        _LOG.error("the bridge to %s has ended: %s", self.broker.name, error)
