"""MQTT: a connection to a broker, and one that reconnects; by paho-mqtt (the extra ``server``)."""

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
from asynccam.runtime.retry import Backoff, Retrier
from asynccam.runtime.tasks import finish, in_thread
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, deadline

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

_LOG = logging.getLogger(__name__)

MQTT_PORT: Final = 1883
_ACK_TIMEOUT: Final = 10.0
_CONNECT_TIMEOUT: Final = 5.0
"""Seconds for the TCP connection, which is made in a thread and cannot be cancelled."""
_DISCONNECT_TIMEOUT: Final = 1.0
_KEEPALIVE_INTERVAL: Final = 1.0
"""Seconds between two checks of the keepalive by paho-mqtt."""
_READS_PER_TURN: Final = 8
"""Reads in one turn of the loop; each takes a packet, or as many as are in flight."""
_MAX_QUEUED: Final = 1024
"""Messages queued for the reader, beyond which nothing is read from the socket."""
_BATCH: Final = 64
"""Messages that a reader gets before other tasks have their turn."""
_CREDENTIALS_REFUSED: Final = frozenset({134, 135})
"""Reasons in a CONNACK for refused credentials (MQTT 5 3.2.2.2; paho-mqtt maps the codes 4 and 5 of
MQTT 3.1.1 3.2.2.3 to these). The library's own error codes are other numbers with other meanings."""
_REFUSAL_GRACE: Final = 60.0
"""Seconds of retries after a refusal, once the same credentials were accepted: a broker that is starting may
refuse all clients until its user database is available."""


@dataclass(frozen=True, slots=True)
class MqttBroker:
    """Address of a broker, and the credentials for it.

    Attributes:
        host: Name or address.
        port: TCP port.
        username: User name, or None.
        password: Password, or None; never shown.
        tls: The context of an encrypted connection, see `asynccam.net.tls.client_context`; or None.
        client_id: Identifier of this client; by default a random one.
        keepalive: Seconds of silence after which either side checks the connection.
        answer_timeout: Seconds for the broker to answer a connection.
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
            raise UsageError(f"not a valid MQTT broker: {self}")

    @property
    def name(self) -> str:
        """Name for errors and the log."""
        return f"MQTT broker {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LastWill:
    """Message that the broker publishes, retained, when this client disconnects without a DISCONNECT."""

    topic: str
    payload: str


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """A message from the broker; ``retain`` if the broker kept it for late subscribers."""

    topic: str
    payload: bytes
    retain: bool = False


class MqttConnection:
    """One connection to a broker, driven by the running loop; see `connect_mqtt`.

    paho-mqtt speaks the protocol and connects in a thread. Everything else happens in the loop, in bounded
    portions: a flood of messages delays no other task, and reading stops while messages are not consumed.

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
        # Never an empty id: where a broker refuses that, paho-mqtt connects again by itself, and blocks the
        # loop meanwhile.
        self._client: Client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id or f"asynccam-{secrets.token_hex(6)}",
            protocol=MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = min(_CONNECT_TIMEOUT, broker.answer_timeout)
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            self._client.tls_set_context(broker.tls)
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        self._fd = -1
        self._reading = False
        self._timer: asyncio.TimerHandle | None = None
        self._accepted = False
        self._refusal: ReasonCode | None = None
        self._lost_reason: str | None = None
        self._changed = asyncio.Event()
        self._messages: deque[MqttMessage] = deque()
        self._acks: dict[int, asyncio.Future[Any]] = {}

    # -- connecting ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and wait for the broker's CONNACK; errors as of `connect_mqtt`."""
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
            # A certificate names the host, so for TLS paho-mqtt must get the name and resolve it itself.
            host = self._broker.host
            if self._broker.tls is None:
                async with deadline(self._broker.answer_timeout, f"address of {name}"):
                    host = await host_for_others(host)
            (await in_thread(self._connect, host)).result()
        except (BusyError, OSError, ValueError) as error:
            raise ConnectionError(f"{name}: {str(error) or type(error).__name__}") from error
        self._attach()
        async with deadline(self._broker.answer_timeout, f"answer from {name}"):
            while not self._accepted and self._lost_reason is None:
                await self._next_change()
        if self._refusal is not None:
            if self._refusal.value in _CREDENTIALS_REFUSED:
                raise AuthenticationError(f"{name} refuses the credentials: {self._refusal}")
            raise ConnectionError(f"{name} refuses the connection: {self._refusal}")
        self._check_connected()

    async def aclose(self) -> None:
        """Disconnect, and close the socket; harmless when called twice."""
        if self._accepted and self._lost_reason is None:
            self._client.disconnect()
            with suppress(TimeoutError):
                async with deadline(_DISCONNECT_TIMEOUT, "end of the connection"):
                    while self._lost_reason is None:
                        await self._next_change()
        self.drop()

    def drop(self) -> None:
        """Close the socket without a DISCONNECT: the broker publishes the will."""
        self._set_lost("the connection was closed")
        self._detach()
        # paho-mqtt closes its socket only in a read, in a write or when it is deleted.
        self._client.on_socket_close = None
        self._client.on_socket_register_write = None
        self._client.on_socket_unregister_write = None
        left = self._client.socket()
        if left is not None:
            with suppress(OSError):
                left.close()

    # -- messages ----------------------------------------------------------------------------------

    @property
    def messages(self) -> AsyncIterator[MqttMessage]:
        """Received messages, in order; the iterator raises `ConnectionError` when the connection is lost."""
        return self._iterate_messages()

    async def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish a message and wait for the broker's PUBACK.

        Raises:
            ConnectionError: The connection is lost.
            TimeoutError: The broker does not answer.
            UsageError: The topic or the payload is invalid.
        """
        self._check_connected()
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
            raise UsageError(f"cannot publish at {topic!r}: {error}") from error
        if sent.rc:
            raise ConnectionError(f"{self._broker.name}: cannot publish: {sent.rc.name}")
        await self._wait_for_ack(sent.mid, f"PUBACK for {topic}")

    async def subscribe(self, topics: str) -> None:
        """Subscribe to a topic or filter, and wait for the broker's SUBACK.

        Raises:
            ConnectionError: The connection is lost.
            TimeoutError: The broker does not answer.
            PermissionDeniedError: The broker refuses (SUBACK 0x80, MQTT 3.1.1 3.9.3).
            UsageError: The filter is invalid.
        """
        self._check_connected()
        try:
            result, message = self._client.subscribe(topics, qos=1)
        except ValueError as error:
            raise UsageError(f"{topics!r} is not a filter of topics: {error}") from error
        if result or message is None:
            raise ConnectionError(f"{self._broker.name}: cannot subscribe: {result.name}")
        codes: list[ReasonCode] = await self._wait_for_ack(message, f"SUBACK for {topics}")
        if any(code.is_failure for code in codes):
            who = self._broker.username
            raise PermissionDeniedError(
                f"{self._broker.name} refuses the subscription to {topics}"
                f"{f' by {who}' if who else ''}; allow it in the broker's access rules"
            )

    async def unsubscribe(self, topics: str) -> None:
        """Unsubscribe from a filter, without waiting; raise `ConnectionError` if the connection is lost."""
        self._check_connected()
        self._client.unsubscribe(topics)

    # -- inside -------------------------------------------------------------------------------------

    async def _iterate_messages(self) -> AsyncIterator[MqttMessage]:
        taken = 0
        while True:
            while not self._messages:
                self._check_connected()
                await self._next_change()
            yield self._messages.popleft()
            taken += 1
            if len(self._messages) <= _MAX_QUEUED // 2:
                self._resume_reading()
            if taken % _BATCH == 0:
                await asyncio.sleep(0)

    async def _wait_for_ack(self, message: int, what: str) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._acks[message] = answer
        try:
            async with deadline(_ACK_TIMEOUT, f"{what} from {self._broker.name}"):
                result = await answer
        finally:
            self._acks.pop(message, None)
        if result is None:
            self._check_connected()
        return result

    def _check_connected(self) -> None:
        if self._lost_reason is not None:
            raise ConnectionError(f"{self._broker.name}: {self._lost_reason}")

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _set_lost(self, reason: str) -> None:
        """Mark the connection as lost, and wake all waiters."""
        if self._lost_reason is None:
            self._lost_reason = reason
        # Not an exception: a future whose waiter was cancelled would be reported as never retrieved.
        for answer in self._acks.values():
            if not answer.done():
                answer.set_result(None)
        self._changed.set()

    def _attach(self) -> None:
        connected = self._client.socket()
        if connected is None:
            self._set_lost("the connection was lost")
            return
        self._fd = connected.fileno()
        self._resume_reading()
        self._loop.add_writer(self._fd, self._write)
        self._timer = self._loop.call_later(_KEEPALIVE_INTERVAL, self._keep_alive)

    def _detach(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
        self._fd, self._reading = -1, False
        if self._timer is not None:
            self._timer.cancel()

    def _resume_reading(self) -> None:
        if self._fd >= 0 and not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        self._run_step(self._read_some)

    def _read_some(self) -> None:
        for _ in range(_READS_PER_TURN):
            if self._fd < 0 or self._client.loop_read():
                return
        if len(self._messages) >= _MAX_QUEUED:
            self._reading = False
            self._loop.remove_reader(self._fd)
        elif isinstance(connected := self._client.socket(), ssl.SSLSocket) and connected.pending():
            self._loop.call_soon(self._read)  # decrypted already, so the socket does not become readable

    def _write(self) -> None:
        if self._fd >= 0:
            self._run_step(self._client.loop_write)

    def _keep_alive(self) -> None:
        if self._fd >= 0:
            self._run_step(self._client.loop_misc)
            self._timer = self._loop.call_later(_KEEPALIVE_INTERVAL, self._keep_alive)

    def _run_step(self, step: Callable[[], object]) -> None:
        """Run a step of paho-mqtt; an exception ends the connection."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a peer's bytes must not reach the loop's error handler
            _LOG.debug("%s: %r", self._broker.name, error)
            self._set_lost(f"{type(error).__name__}: {error}")
            self._detach()

    # -- callbacks of paho-mqtt -----------------------------------------------------------------------

    def _connect(self, host: str) -> None:
        """Connect, in a thread."""
        self._client.connect(host, self._broker.port, self._broker.keepalive)

    def _on_connect(
        self, client: "Client", data: Any, flags: Any, reason: "ReasonCode", properties: Any
    ) -> None:
        if reason.is_failure:
            self._refusal = reason
            self._set_lost(str(reason))
        self._accepted = not reason.is_failure
        self._changed.set()

    def _on_disconnect(
        self, client: "Client", data: Any, flags: Any, reason: "ReasonCode", properties: Any
    ) -> None:
        self._set_lost(f"the connection was lost: {reason}")

    def _on_message(self, client: "Client", data: Any, message: "MQTTMessage") -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # MQTT 3.1.1 1.5.3: a broker must not send such a topic
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: message %s %s", self._broker.name, topic, loggable_json(bytes(message.payload)))
        self._messages.append(MqttMessage(topic, bytes(message.payload), bool(message.retain)))
        self._changed.set()

    def _on_publish(self, client: "Client", data: Any, message: int, reason: Any, properties: Any) -> None:
        self._on_ack(message, True)

    def _on_subscribe(self, client: "Client", data: Any, message: int, codes: Any, properties: Any) -> None:
        self._on_ack(message, list(codes))

    def _on_ack(self, message: int, answer: object) -> None:
        waiting = self._acks.get(message)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _on_socket_close(self, client: "Client", data: Any, connected: Any) -> None:
        if self._fd >= 0:  # while it connects, in a thread, nothing is attached
            self._detach()
            self._set_lost("the connection was lost")

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
    backoff: Backoff | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Run ``work`` on a connection, and again on a new one whenever it is lost, until it returns.

    ``work`` gets `ConnectionError` from its calls when the connection is lost. A refusal ends the loop,
    unless the broker accepted the same credentials before: then it is tried again for a minute, because a
    restarting broker may refuse all clients at first.

    Raises:
        AuthenticationError: The broker refuses the credentials.
        PermissionDeniedError: The broker refuses a subscription.
        UsageError: paho-mqtt is not installed.
    """
    retrier = Retrier(backoff or Backoff(immediate=True), clock=clock)
    accepted = False
    refused_since: float | None = None
    while True:
        connected = False
        try:
            async with connect_mqtt(broker, will=will) as client:
                connected = True
                retrier.reset()
                await work(client)
                return
        except (ConnectionError, TimeoutError) as error:
            loss = error if isinstance(error, ConnectionError) else _connection_error(broker, error)
            accepted, refused_since = accepted or connected, refused_since if not connected else None
        except AuthenticationError as error:
            refused_since = clock.monotonic() if refused_since is None else refused_since
            if not accepted or clock.monotonic() - refused_since > _REFUSAL_GRACE:
                raise
            loss = _connection_error(broker, error)
        _LOG.info("%s", loss)
        await retrier.wait_after_failure()


def _connection_error(broker: MqttBroker, error: Exception) -> ConnectionError:
    return ConnectionError(f"{broker.name}: {error}")


@asynccontextmanager
async def connect_mqtt(broker: MqttBroker, *, will: LastWill | None = None) -> AsyncIterator[MqttConnection]:
    """Connect for the length of the block; a cancellation leaves no socket behind.

    Raises:
        ConnectionError: The broker cannot be reached or refuses, or the connection was lost in the block.
        AuthenticationError: The broker refuses the credentials.
        TimeoutError: The broker does not answer.
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
