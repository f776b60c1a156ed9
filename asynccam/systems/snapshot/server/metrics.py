"""``/metrics`` for Prometheus."""

import time
from collections.abc import Callable
from typing import Any, Final

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from asynccam.runtime.event_hub import Subscription
from asynccam.systems.snapshot.server import events
from asynccam.systems.snapshot.server.middleware import ConnectionLimiter
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.sse import EventFeed

_NAMESPACE: Final = "asynccam_snapshot"
_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


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
            buckets=_SECONDS,
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
