"""A connection to an MQTT broker that comes back; by paho-mqtt (the extra ``server``)."""

import asyncio
import logging
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from asynccam.errors import (
    AuthenticationError,
    BusyError,
    ConnectionError,
    PermissionDeniedError,
    TimeoutError,
    UsageError,
)
from asynccam.net.tcp import host_for_others
from asynccam.redaction import loggable_json
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import finish
from asynccam.runtime.threads import in_thread
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, deadline

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

_LOG = logging.getLogger(__name__)

MQTT_PORT: Final = 1883
_ANSWER_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 5.0
"""Seconds for the TCP connection, which is made in a thread and cannot be called back."""
_GOODBYE_SECONDS: Final = 1.0
_MISC_SECONDS: Final = 1.0
"""Seconds between two looks of paho-mqtt at the keepalive."""
_READS: Final = 8
"""Reads in one turn of the loop; each takes a packet, or as many as are in flight."""
_MOST_WAITING: Final = 1024
"""Messages that wait for their reader; with more of them nothing is read from the socket."""
_BATCH: Final = 64
"""Messages that a reader gets before others have their turn of the loop."""
_REFUSED: Final = frozenset({134, 135})
"""Reasons in a CONNACK that say: not with these credentials (MQTT 5 3.2.2.2; paho-mqtt gives the codes 4 and
5 of MQTT 3.1.1 3.2.2.3 as these). The library's own error codes are other numbers with other meanings."""
_SECOND_THOUGHTS: Final = 60.0
"""Seconds for which a refusal is tried again after the same credentials were accepted: a broker that starts
may refuse everybody until its own source of users is there."""


@dataclass(frozen=True, slots=True)
class MqttBroker:
    """Where a broker is, and as whom it is used.

    Attributes:
        host: Name or address.
        port: TCP port.
        username: Or None.
        password: Or None; never shown.
        tls: The context of an encrypted connection, see `asynccam.net.tls.client_context`; or None.
        client_id: As the broker knows this client; by default a random one.
        keepalive: Seconds of silence after which either side looks whether the other is there.
        answer_timeout: Seconds the broker has to answer when it is connected to.
    """

    host: str
    port: int = MQTT_PORT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    client_id: str | None = None
    keepalive: int = 30
    answer_timeout: float = 10.0

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535 or self.keepalive < 1:
            raise UsageError(f"not the place of an MQTT broker: {self}")

    @property
    def name(self) -> str:
        """For errors and the log."""
        return f"MQTT broker {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LastWill:
    """What the broker publishes, retained, once this client is gone without a word.

    Attributes:
        topic: Where.
        payload: What.
    """

    topic: str
    payload: str


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """A message from the broker.

    Attributes:
        topic: Its topic.
        payload: Its content.
        retain: Whether the broker had kept it for those who subscribe later.
    """

    topic: str
    payload: bytes
    retain: bool = False


class MqttConnection:
    """One connection to a broker, driven by the running loop; see `connect_mqtt`.

    paho-mqtt speaks the protocol and connects in a thread. Everything else happens in the loop, in bounded
    portions: a flood of messages delays no other task, and messages that nobody takes stop the reading.

    Args:
        broker: Where, and as whom.
        will: Left with the broker, or None.

    Raises:
        UsageError: paho-mqtt is not installed.
    """

    def __init__(self, broker: MqttBroker, will: LastWill | None = None) -> None:
        try:
            from paho.mqtt.client import Client, MQTTv311
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise UsageError('MQTT needs paho-mqtt: pip install "asynccam[server]"') from None
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        # An id of our own: with an empty one paho-mqtt connects again by itself where a broker refuses that,
        # and blocks the loop meanwhile.
        self._client: Client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id or f"asynccam-{secrets.token_hex(6)}",
            protocol=MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = min(_CONNECT_SECONDS, broker.answer_timeout)
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            self._client.tls_set_context(broker.tls)
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        self._fd = -1
        self._reads = False
        self._timer: asyncio.TimerHandle | None = None
        self._accepted = False
        self._refusal: ReasonCode | None = None
        self._gone: str | None = None
        self._changed = asyncio.Event()
        self._waiting: deque[MqttMessage] = deque()
        self._answers: dict[int, asyncio.Future[Any]] = {}

    # -- its life -----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and wait for the broker's word.

        Raises:
            ConnectionError: The broker cannot be reached, or does not let this client in now.
            AuthenticationError: It refuses the credentials.
            TimeoutError: It does not answer.
        """
        name = self._broker.name
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_socket_close = self._on_socket_close
        self._client.on_socket_register_write = self._on_register_write
        self._client.on_socket_unregister_write = self._on_unregister_write
        try:
            # A certificate names the host, so that paho-mqtt has to be given its name for TLS.
            host = self._broker.host
            if self._broker.tls is None:
                async with deadline(self._broker.answer_timeout, f"address of {name}"):
                    host = await host_for_others(host)
            (await in_thread(self._connect, host)).result()
        except (BusyError, OSError, ValueError) as error:
            raise ConnectionError(f"{name}: {str(error) or type(error).__name__}") from error
        self._attach()
        async with deadline(self._broker.answer_timeout, f"answer from {name}"):
            while not self._accepted and self._gone is None:
                await self._next_change()
        if self._refusal is not None:
            if self._refusal.value in _REFUSED:
                raise AuthenticationError(f"{name} refuses the credentials: {self._refusal}")
            raise ConnectionError(f"{name} does not let this client in: {self._refusal}")
        self._check()

    async def aclose(self) -> None:
        """Say goodbye, and close the socket; harmless when called twice."""
        if self._accepted and self._gone is None:
            self._client.disconnect()
            with suppress(TimeoutError):
                async with deadline(_GOODBYE_SECONDS, "goodbye"):
                    while self._gone is None:
                        await self._next_change()
        self.drop()

    def drop(self) -> None:
        """Close the socket without a goodbye: the broker publishes the will."""
        self._lose("the connection was closed")
        self._detach()
        # Nothing of the library closes a socket but a read, a write and its own end.
        self._client.on_socket_close = None
        self._client.on_socket_register_write = None
        self._client.on_socket_unregister_write = None
        left = self._client.socket()
        if left is not None:
            with suppress(OSError):
                left.close()

    # -- what it is for -----------------------------------------------------------------------------

    @property
    def messages(self) -> AsyncIterator[MqttMessage]:
        """Messages of what is subscribed to, in order; raises `ConnectionError` when the connection goes."""
        return self._take_messages()

    async def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish a message and wait for the broker's word that it has it (PUBACK).

        Raises:
            ConnectionError: The connection is gone.
            UsageError: The broker cannot be given such a message.
        """
        self._check()
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug(
                "%s: publish %s %s",
                self._broker.name,
                topic,
                loggable_json(payload.encode() if isinstance(payload, str) else payload),
            )
        try:
            sent = self._client.publish(topic, payload, qos=1, retain=retain)
        except ValueError as error:
            raise UsageError(f"nothing can be published at {topic!r}: {error}") from error
        if sent.rc:
            raise ConnectionError(f"{self._broker.name}: nothing can be published: {sent.rc.name}")
        await self._answer_to(sent.mid)

    async def subscribe(self, topics: str) -> None:
        """Ask for the messages of a topic or filter.

        Raises:
            ConnectionError: The connection is gone.
            PermissionDeniedError: The broker refuses (SUBACK 0x80, MQTT 3.1.1 3.9.3).
            UsageError: It is not a filter.
        """
        self._check()
        try:
            result, message = self._client.subscribe(topics, qos=1)
        except ValueError as error:
            raise UsageError(f"{topics!r} is not a filter of topics: {error}") from error
        if result or message is None:
            raise ConnectionError(f"{self._broker.name}: nothing can be subscribed to: {result.name}")
        codes: list[ReasonCode] = await self._answer_to(message)
        if any(code.is_failure for code in codes):
            who = self._broker.username
            raise PermissionDeniedError(
                f"{self._broker.name} refuses the subscription to {topics}"
                f"{f' by {who}' if who else ''}; allow it in the broker's access rules"
            )

    async def unsubscribe(self, topics: str) -> None:
        """Ask for no more messages of a filter; does not wait for the broker's word.

        Raises:
            ConnectionError: The connection is gone.
        """
        self._check()
        self._client.unsubscribe(topics)

    # -- inside -------------------------------------------------------------------------------------

    async def _take_messages(self) -> AsyncIterator[MqttMessage]:
        taken = 0
        while True:
            while not self._waiting:
                self._check()
                await self._next_change()
            yield self._waiting.popleft()
            taken += 1
            if len(self._waiting) <= _MOST_WAITING // 2:
                self._read_on()
            if taken % _BATCH == 0:
                await asyncio.sleep(0)

    async def _answer_to(self, message: int) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._answers[message] = answer
        try:
            result = await answer
        finally:
            self._answers.pop(message, None)
        if result is None:
            self._check()
        return result

    def _check(self) -> None:
        if self._gone is not None:
            raise ConnectionError(f"{self._broker.name}: {self._gone}")

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _lose(self, reason: str) -> None:
        """Take the connection for gone, and wake all who wait for something of it."""
        if self._gone is None:
            self._gone = reason
        # Not an exception: a future whose waiter was cancelled would be reported as never retrieved.
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)
        self._changed.set()

    def _attach(self) -> None:
        connected = self._client.socket()
        if connected is None:
            self._lose("the connection was lost")
            return
        self._fd = connected.fileno()
        self._read_on()
        self._loop.add_writer(self._fd, self._write)
        self._timer = self._loop.call_later(_MISC_SECONDS, self._look_after)

    def _detach(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
        self._fd, self._reads = -1, False
        if self._timer is not None:
            self._timer.cancel()

    def _read_on(self) -> None:
        if self._fd >= 0 and not self._reads:
            self._reads = True
            self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        self._guarded(self._read_some)

    def _read_some(self) -> None:
        for _ in range(_READS):
            if self._fd < 0 or self._client.loop_read():
                return
        if len(self._waiting) >= _MOST_WAITING:
            self._reads = False
            self._loop.remove_reader(self._fd)
        elif isinstance(connected := self._client.socket(), ssl.SSLSocket) and connected.pending():
            self._loop.call_soon(self._read)  # decrypted already, so that the socket will not say so

    def _write(self) -> None:
        if self._fd >= 0:
            self._guarded(self._client.loop_write)

    def _look_after(self) -> None:
        if self._fd >= 0:
            self._guarded(self._client.loop_misc)
            self._timer = self._loop.call_later(_MISC_SECONDS, self._look_after)

    def _guarded(self, step: Callable[[], object]) -> None:
        """Do a step of paho-mqtt; whatever a broker makes it raise is the end of the connection."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a peer's bytes must not reach the loop's error handler
            _LOG.debug("%s: %r", self._broker.name, error)
            self._lose(f"{type(error).__name__}: {error}")
            self._detach()

    # -- callbacks of paho-mqtt -----------------------------------------------------------------------

    def _connect(self, host: str) -> None:
        """In a thread."""
        self._client.connect(host, self._broker.port, self._broker.keepalive)

    def _on_connect(
        self, client: "Client", data: Any, flags: Any, reason: "ReasonCode", properties: Any
    ) -> None:
        if reason.is_failure:
            self._refusal = reason
            self._lose(str(reason))
        self._accepted = not reason.is_failure
        self._changed.set()

    def _on_disconnect(
        self, client: "Client", data: Any, flags: Any, reason: "ReasonCode", properties: Any
    ) -> None:
        self._lose(f"the connection was lost: {reason}")

    def _on_message(self, client: "Client", data: Any, message: "MQTTMessage") -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # MQTT 3.1.1 1.5.3: a broker must not send such a topic
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: message %s %s", self._broker.name, topic, loggable_json(bytes(message.payload)))
        self._waiting.append(MqttMessage(topic, bytes(message.payload), bool(message.retain)))
        self._changed.set()

    def _on_publish(self, client: "Client", data: Any, message: int, reason: Any, properties: Any) -> None:
        self._answered(message, True)

    def _on_subscribe(self, client: "Client", data: Any, message: int, codes: Any, properties: Any) -> None:
        self._answered(message, list(codes))

    def _answered(self, message: int, answer: object) -> None:
        waiting = self._answers.get(message)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _on_socket_close(self, client: "Client", data: Any, connected: Any) -> None:
        if self._fd >= 0:  # in the loop; while it connects, in a thread, nothing is attached
            self._detach()
            self._lose("the connection was lost")

    def _on_register_write(self, client: "Client", data: Any, connected: Any) -> None:
        if self._fd >= 0:
            self._loop.add_writer(self._fd, self._write)

    def _on_unregister_write(self, client: "Client", data: Any, connected: Any) -> None:
        if self._fd >= 0:
            self._loop.remove_writer(self._fd)


async def stay_connected(
    broker: MqttBroker,
    work: Callable[[MqttConnection], Awaitable[None]],
    *,
    will: LastWill | None = None,
    on_lost: Callable[[ConnectionError], None] = lambda error: None,
    backoff: Backoff | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Do some work on a connection, and again on the next one whenever it is lost; until cancelled.

    A refusal ends it, unless the broker had accepted the same before: then it is tried again for a minute,
    because a broker that is being restarted may refuse everybody for a while.

    Args:
        broker: Where.
        work: Called with each connection; is cancelled by nobody but the caller, and meets
            `ConnectionError` when the connection goes. Returning ends it all.
        will: Left with the broker at every connection.
        on_lost: Called with every loss and every try that failed.
        backoff: The waits between tries.
        clock: For tests.

    Raises:
        AuthenticationError: The broker refuses the credentials.
        PermissionDeniedError: It refuses a subscription.
        UsageError: paho-mqtt is not installed.
    """
    patience = backoff or Backoff(immediate=True)
    delays = patience.delays()
    accepted = False
    refused_since: float | None = None
    while True:
        connected = False
        try:
            async with connect_mqtt(broker, will=will) as client:
                connected = True
                delays = patience.delays()
                await work(client)
                return
        except (ConnectionError, TimeoutError) as error:
            told = error if isinstance(error, ConnectionError) else _as_loss(broker, error)
            accepted, refused_since = accepted or connected, refused_since if not connected else None
        except AuthenticationError as error:
            refused_since = clock.monotonic() if refused_since is None else refused_since
            if not accepted or clock.monotonic() - refused_since > _SECOND_THOUGHTS:
                raise
            told = _as_loss(broker, error)
        _LOG.info("%s", told)
        on_lost(told)
        await clock.sleep(next(delays))


def _as_loss(broker: MqttBroker, error: Exception) -> ConnectionError:
    return ConnectionError(f"{broker.name}: {error}")


@asynccontextmanager
async def connect_mqtt(broker: MqttBroker, *, will: LastWill | None = None) -> AsyncIterator[MqttConnection]:
    """A connection for the length of the block; a cancellation in the middle of it leaves no socket behind.

    Args:
        broker: Where, and as whom.
        will: Left with the broker.

    Raises:
        ConnectionError: The broker cannot be reached, or the connection was lost in the block.
        AuthenticationError: It refuses the credentials.
        TimeoutError: It does not answer.
        UsageError: paho-mqtt is not installed.
    """
    connection = MqttConnection(broker, will)
    try:
        await connection.open()
    except BaseException:
        connection.drop()
        raise
    try:
        yield connection
    finally:
        await finish(connection.aclose())


async def publish(client: MqttConnection, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
    """Publish a message and wait for the broker's word that it has it.

    Raises:
        ConnectionError: The connection is gone.
        TimeoutError: The broker does not answer.
    """
    async with deadline(_ANSWER_SECONDS, f"word of the broker that it has {topic}"):
        await client.publish(topic, payload, retain=retain)


async def subscribe(client: MqttConnection, topics: str) -> None:
    """Ask for the messages of a topic or filter.

    Raises:
        ConnectionError: The connection is gone.
        PermissionDeniedError: The broker refuses.
        TimeoutError: The broker does not answer.
    """
    async with deadline(_ANSWER_SECONDS, f"word of the broker that it sends {topics}"):
        await client.subscribe(topics)
