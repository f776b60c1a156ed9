"""A connection to an MQTT broker that comes back; by aiomqtt (the extra ``server``)."""

import builtins
import logging
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from asynccam.errors import AuthenticationError, BusyError, ConnectionError, TimeoutError, UsageError
from asynccam.runtime.backoff import Backoff
from asynccam.runtime.tasks import finish
from asynccam.runtime.threads import thread_errors
from asynccam.runtime.timing import SYSTEM_CLOCK, Clock, deadline

if TYPE_CHECKING:
    from aiomqtt import Client

_LOG = logging.getLogger(__name__)

MQTT_PORT: Final = 1883
_ANSWER_SECONDS: Final = 10.0
_REFUSED: Final = frozenset({4, 5, 134, 135})
"""Codes of a CONNACK, in versions 3.1.1 and 5, that say: not with these credentials."""


@dataclass(frozen=True, slots=True)
class MqttBroker:
    """Where a broker is, and as whom it is used.

    Attributes:
        host: Name or address.
        port: TCP port.
        username: Or None.
        password: Or None; never shown.
        tls: The context of an encrypted connection, see `asynccam.net.tls.client_context`; or None.
        client_id: As the broker knows this client; by default one it chooses.
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


async def stay_connected(
    broker: MqttBroker,
    work: Callable[["Client"], Awaitable[None]],
    *,
    will: LastWill | None = None,
    on_lost: Callable[[ConnectionError], None] = lambda error: None,
    backoff: Backoff | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Do some work on a connection, and again on the next one whenever it is lost; until cancelled.

    Args:
        broker: Where.
        work: Called with each connection; is cancelled by nobody but the caller, and meets aiomqtt's
            ``MqttError`` when the connection goes. Returning ends it all.
        will: Left with the broker at every connection.
        on_lost: Called with every loss and every try that failed.
        backoff: The waits between tries.
        clock: For tests.

    Raises:
        AuthenticationError: The broker refuses the credentials; nothing is tried again.
        UsageError: aiomqtt is not installed.
    """
    patience = backoff or Backoff(immediate=True)
    delays = patience.delays()
    while True:
        try:
            async with connect_mqtt(broker, will=will) as client:
                delays = patience.delays()
                await work(client)
                return
        except ConnectionError as error:
            _LOG.info("%s", error)
            on_lost(error)
        except TimeoutError as error:
            _LOG.info("%s: %s", broker.name, error)
            on_lost(ConnectionError(f"{broker.name}: {error}"))
        await clock.sleep(next(delays))


@asynccontextmanager
async def connect_mqtt(broker: MqttBroker, *, will: LastWill | None = None) -> AsyncIterator["Client"]:
    """A connection for the length of the block; a cancellation in the middle of it leaves no socket behind.

    Args:
        broker: Where, and as whom.
        will: Left with the broker.

    Raises:
        ConnectionError: The broker cannot be reached, or the connection was lost in the block.
        AuthenticationError: It refuses the credentials.
        UsageError: aiomqtt is not installed.
    """
    try:
        from aiomqtt import Client, MqttCodeError, MqttError, Will
    except ImportError:
        raise UsageError('MQTT needs aiomqtt: pip install "asynccam[server]"') from None
    client = Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        identifier=broker.client_id,
        tls_context=broker.tls,
        keepalive=broker.keepalive,
        timeout=broker.answer_timeout,
        will=None if will is None else Will(will.topic, will.payload, qos=1, retain=True),
    )
    entered = False

    async def enter() -> None:
        nonlocal entered
        try:
            with thread_errors():
                await client.__aenter__()
        except BusyError as error:
            raise ConnectionError(f"{broker.name}: {error}") from error
        except MqttError as error:
            # A broker that says nothing leaves an open socket in aiomqtt's hands, one that is not there none.
            reason = error.__context__
            entered = isinstance(reason, builtins.TimeoutError) or not isinstance(reason, OSError)
            raise
        entered = True

    try:
        try:
            await finish(enter())  # a thread connects, which cannot be called back
            yield client
        finally:
            if entered:
                # What goes wrong with the goodbye must not take the place of why one leaves.
                with suppress(MqttError):
                    await finish(client.__aexit__(None, None, None))
    except MqttError as error:
        if isinstance(error, MqttCodeError) and _code(error) in _REFUSED:
            raise AuthenticationError(f"{broker.name} refuses the credentials: {error}") from error
        raise ConnectionError(f"{broker.name}: {error}") from error


async def publish(client: "Client", topic: str, payload: str | bytes, *, retain: bool = False) -> None:
    """Publish a message and wait for the broker's word that it has it.

    Raises:
        aiomqtt.MqttError: The connection is gone.
        TimeoutError: The broker does not answer.
    """
    async with deadline(_ANSWER_SECONDS, f"word of the broker that it has {topic}"):
        # aiomqtt's own deadline can lose a cancellation on Python 3.11 (asyncio.wait_for).
        await client.publish(topic, payload, qos=1, retain=retain, timeout=math.inf)


async def subscribe(client: "Client", topics: str) -> None:
    """Ask for the messages of a topic or filter.

    Raises:
        aiomqtt.MqttError: The connection is gone.
        TimeoutError: The broker does not answer.
    """
    async with deadline(_ANSWER_SECONDS, f"word of the broker that it sends {topics}"):
        await client.subscribe(topics, qos=1, timeout=math.inf)


def _code(error: object) -> int | None:
    code = getattr(error, "rc", None)
    return getattr(code, "value", code)
