"""Web server of a Snapshot server: its routes, the socket it listens at, and its metrics for Prometheus."""

import asyncio
import resource
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, Final

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from asynccam.errors import ConnectionError
from asynccam.runtime.disk import on_disk
from asynccam.runtime.event_hub import Subscription
from asynccam.runtime.tasks import finish_on_error
from asynccam.systems.snapshot.server import events
from asynccam.systems.snapshot.server.api_legacy import LegacyApi
from asynccam.systems.snapshot.server.api_v1 import ApiV1, EventFeed
from asynccam.systems.snapshot.server.middleware import (
    IDLE_TIMEOUT,
    MAX_BODY,
    AccessPolicy,
    ConnectionLimiter,
    RequestMiddleware,
    add_headers,
)
from asynccam.systems.snapshot.server.pages import Pages, read_files
from asynccam.systems.snapshot.server.service import SnapshotService

MAX_CONNECTIONS: Final = 4096
MAX_REQUESTS: Final = 2048
_BACKLOG: Final = 1024
_KEEP_ALIVE: Final = 30.0
_SPARE_DESCRIPTORS: Final = 200
"""File descriptors reserved for cameras, files and processes."""
_LINGERING: Final = 1.0
"""Seconds to read an unwanted body before the connection is closed."""
_SHUTDOWN_TIMEOUT: Final = 6.0
_NAMESPACE: Final = "asynccam_snapshot"
_CAPTURE_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


class SnapshotWeb:
    """REST APIs, page and event stream of a `SnapshotService`; an async context manager.

    Args:
        service: Entered and left by the caller.
        host: Address to listen at.
        port: TCP port; 0 takes a free one.
        token: Required of every request, or None.
        hosts: Host names of the server, see `asynccam.systems.snapshot.server.middleware.AccessPolicy`.
        max_connections: Maximum number of connections; also limited by the file descriptors of the process.
        max_requests: Requests answered at once; more get a 503.
        silence: Seconds a connection may be open without a request.

    Attributes:
        metrics: Served at ``/metrics``.

    Raises:
        UsageError: The token is too short.
    """

    def __init__(
        self,
        service: SnapshotService,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        hosts: Iterable[str] = (),
        max_connections: int = MAX_CONNECTIONS,
        max_requests: int = MAX_REQUESTS,
        silence: float = IDLE_TIMEOUT,
    ) -> None:
        self._service = service
        self._host = host
        self._port = port
        self._policy = AccessPolicy(token=token, hosts=hosts)
        self._max_connections = min(max_connections, _available_descriptors())
        self._idle_timeout = silence
        self._feed = EventFeed(service)
        self.metrics = ServerMetrics(service, self._feed)
        self._middleware = RequestMiddleware(
            self._policy,
            max_requests=max_requests,
            on_response=self.metrics.answered,
            on_refused=self.metrics.refused,
        )
        self._parts = AsyncExitStack()

    @property
    def port(self) -> int:
        """The port it listens at."""
        return self._port

    @property
    def url(self) -> str:
        """Its base URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def wants_token(self) -> bool:
        """True if requests need a token."""
        return self._policy.wants_token

    async def __aenter__(self) -> "SnapshotWeb":
        app = web.Application(middlewares=[self._middleware.handle], client_max_size=MAX_BODY)
        app.add_routes(LegacyApi(self._service).routes())
        app.add_routes(ApiV1(self._service, self._feed).routes())
        app.add_routes(Pages(self._service, self._policy, await on_disk(read_files)).routes())
        app.add_routes([web.get("/metrics", self.metrics.show)])
        app.on_response_prepare.append(add_headers)
        runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
            lingering_time=_LINGERING,
            max_line_size=8190,
        )
        async with AsyncExitStack() as stack:
            self.metrics.open()
            stack.callback(self.metrics.close)
            self._feed.open()
            stack.push_async_callback(self._feed.aclose)
            async with finish_on_error(runner.cleanup):
                await runner.setup()
            await self._listen(stack, runner)
            self._parts = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._parts.aclose()

    async def _listen(self, stack: AsyncExitStack, runner: web.AppRunner) -> None:
        assert runner.server is not None
        limiter = ConnectionLimiter(
            runner.server, limit=self._max_connections, idle_timeout=self._idle_timeout
        )
        self.metrics.watch(limiter)
        stack.push_async_callback(limiter.aclose)
        limiter.open()
        stack.push_async_callback(runner.cleanup)
        # Streams have no end of their own: before the runner waits for the requests, they are ended.
        stack.callback(self._feed.end_streams)
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(limiter, self._host, self._port, backlog=_BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectionError(f"cannot listen at {self._host}:{self._port}: {reason}") from error
        stack.callback(server.close)
        self._port = server.sockets[0].getsockname()[1]


def _available_descriptors() -> int:
    """Return how many connections leave enough descriptors for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(16, soft - _SPARE_DESCRIPTORS)


# -- metrics ------------------------------------------------------------------------------------


class ServerMetrics:
    """Metrics of a server, in a registry of its own."""

    def __init__(self, service: SnapshotService, feed: EventFeed) -> None:
        self._service = service
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"namespace": _NAMESPACE, "registry": self.registry}
        self._requests = Counter("requests", "Requests answered", ("method", "route", "status"), **own)
        self._refused = Counter("refused", "Requests refused", ("reason",), **own)
        self._captures = Counter("captures", "Captures ended", ("camera", "result"), **own)
        self._seconds = Histogram(
            "capture_seconds",
            "Seconds from the device's turn to the picture in the store",
            ("camera",),
            buckets=_CAPTURE_SECONDS,
            **own,
        )
        store = service.store
        for name, description, value in (
            ("captures_running", "Captures that run", lambda: service.capturing),
            ("captures_waiting", "Captures that wait", lambda: service.waiting),
            ("cameras", "Cameras that are configured", lambda: len(service.cameras())),
            (
                "config_problems",
                "Entries of config.json that cannot be used",
                lambda: len(service.config.problems),
            ),
            ("pictures", "Pictures in the store", lambda: len(store)),
            ("pictures_bytes", "Bytes of all pictures", lambda: store.size),
            ("event_streams", "Event streams that are open", lambda: len(feed)),
            ("event_streams_let_go", "Event streams that read too slowly", lambda: feed.let_go),
            ("services_stopped", "Services stopped at this moment", lambda: len(service.services.stopped)),
            (
                "imu_connected",
                "Whether the broker is reached",
                lambda: bool(service.imu and service.imu.connected),
            ),
        ):
            self._show(name, description, value)
        self._started: dict[str, float] = {}
        self._subscription: Subscription | None = None

    def open(self) -> None:
        """Begin to count captures."""
        self._subscription = self._service.events.subscribe(self._on_event, events.CaptureEvent)

    def close(self) -> None:
        """Stop counting."""
        if self._subscription is not None:
            self._subscription.cancel()

    def watch(self, limiter: ConnectionLimiter) -> None:
        """Count connections."""
        for name, description, value in (
            ("connections", "Connections that are open", lambda: len(limiter)),
            ("connections_refused", "Connections beyond the limit", lambda: limiter.refused),
            ("connections_dropped", "Connections that were silent too long", lambda: limiter.dropped),
        ):
            self._show(name, description, value)

    def answered(self, method: str, route: str, status: int) -> None:
        """Count a response; ``route`` is the pattern of a route, so that the number of labels is bounded."""
        self._requests.labels(method if method in hdrs.METH_ALL else "other", route, str(status)).inc()

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self._refused.labels(reason).inc()

    async def show(self, request: web.Request) -> web.StreamResponse:
        """``GET /metrics``."""
        headers = {hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=generate_latest(self.registry), headers=headers)

    def value(self, name: str, **labels: str) -> float:
        """Return the value of a metric, 0 if it was never counted."""
        return self.registry.get_sample_value(f"{_NAMESPACE}_{name}", labels) or 0.0

    def _show(self, name: str, description: str, value: Callable[[], float]) -> None:
        Gauge(name, description, namespace=_NAMESPACE, registry=self.registry).set_function(value)

    def _on_event(self, event: events.CaptureEvent) -> None:
        match event:
            case events.CaptureStarted():
                self._started[event.camera] = time.monotonic()
            case events.CaptureDone():
                self._captures.labels(event.camera, "done").inc()
                now = time.monotonic()
                self._seconds.labels(event.camera).observe(now - self._started.pop(event.camera, now))
            case events.CaptureFailed():
                self._captures.labels(event.camera, "failed").inc()
                self._started.pop(event.camera, None)
