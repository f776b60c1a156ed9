"""Remote methods about the service itself, its streams and its events. See docs/protocols/mediamtx.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from asynccam.systems.mediamtx.asking import Asking, given, one_device
from asynccam.systems.mediamtx.connection import Subscriptions
from asynccam.systems.mediamtx.models import Report


class ServiceMethods(Asking):
    """The methods about the service; part of `CameraClient`.

    They raise what `CameraMethods` raise; a service that does not have a method answers with
    `UnsupportedError`.
    """

    _subscriptions: Subscriptions

    async def ping(self) -> str:
        """Whether the service answers; its answer is ``pong``."""
        return str(await self.call("ping", repeat=True))

    async def get_metrics(self) -> Report:
        """Figures about the service's work."""
        return await self._read(Report, "get_metrics")

    async def get_status(self) -> Report:
        """How the service is."""
        return await self._read(Report, "get_status")

    async def get_system_status(self) -> Report:
        """How the service is; generation 2."""
        return await self._read(Report, "get_system_status")

    async def get_server_info(self) -> Report:
        """Name and version of the service."""
        return await self._read(Report, "get_server_info")

    async def get_storage_info(self) -> Report:
        """Room on the service's disk; one released service of generation 1 always fails here."""
        return await self._read(Report, "get_storage_info")

    async def set_retention_policy(
        self,
        policy_type: str,
        *,
        max_age_days: float | None = None,
        max_size_gb: float | None = None,
        enabled: bool = True,
    ) -> Report:
        """Say what the service deletes by itself.

        Args:
            policy_type: ``age``, ``size`` or ``manual``.
            max_age_days: For ``age``.
            max_size_gb: For ``size``.
            enabled: Whether the policy is in force.
        """
        params = given(
            policy_type=policy_type, max_age_days=max_age_days, max_size_gb=max_size_gb, enabled=enabled
        )
        return await self._change(Report, "set_retention_policy", params)

    async def cleanup_old_files(self) -> Report:
        """Have the service delete now what its policy says."""
        return await self._change(Report, "cleanup_old_files")

    # -- streams ----------------------------------------------------------------------------------

    async def get_streams(self) -> list[Report]:
        """The media server's streams."""
        answer = await self.call("get_streams", repeat=True)
        streams = answer.get("streams", []) if isinstance(answer, Mapping) else answer
        return [
            Report.read(stream, method="get_streams")
            for stream in (streams if isinstance(streams, list) else [streams])
        ]

    async def start_streaming(self, device_path: str = "", *, device: str = "") -> Report:
        """Start a camera's live stream; generation 2."""
        return await self._change(Report, "start_streaming", {"device": one_device(device_path, device)})

    async def stop_streaming(self, device_path: str = "", *, device: str = "") -> Report:
        """Stop a camera's live stream; generation 2."""
        return await self._change(Report, "stop_streaming", {"device": one_device(device_path, device)})

    async def get_stream_url(self, device_path: str = "", *, device: str = "") -> Report:
        """Where a camera's live stream is; generation 2."""
        return await self._read(Report, "get_stream_url", {"device": one_device(device_path, device)})

    async def get_stream_status(self, device_path: str = "", *, device: str = "") -> Report:
        """How a camera's live stream is; generation 2."""
        return await self._read(Report, "get_stream_status", {"device": one_device(device_path, device)})

    async def discover_external_streams(self, **params: Any) -> Report:
        """Look for streams of others; generation 2."""
        return await self._change(Report, "discover_external_streams", params)

    async def add_external_stream(self, **params: Any) -> Report:
        """Have the service serve somebody else's stream; generation 2."""
        return await self._change(Report, "add_external_stream", params)

    async def remove_external_stream(self, **params: Any) -> Report:
        """Have the service serve somebody else's stream no longer; generation 2."""
        return await self._change(Report, "remove_external_stream", params)

    async def get_external_streams(self) -> Report:
        """Streams of others that the service serves; generation 2."""
        return await self._read(Report, "get_external_streams")

    async def set_discovery_interval(self, **params: Any) -> Report:
        """How often the service looks for streams of others; generation 2."""
        return await self._change(Report, "set_discovery_interval", params)

    # -- events -----------------------------------------------------------------------------------

    async def subscribe_events(
        self, topics: Sequence[str], filters: Mapping[str, Any] | None = None
    ) -> Report:
        """Be told of these topics, on this connection and on every one that follows; generation 2.

        Args:
            topics: ``system.health`` for example.
            filters: What the service understands, or None.
        """
        wanted = None if filters is None else dict(filters)
        report = await self._read(Report, "subscribe_events", given(topics=list(topics), filters=wanted))
        self._subscriptions.update(dict.fromkeys(topics, wanted))
        return report

    async def unsubscribe_events(self, topics: Sequence[str] | None = None) -> Report:
        """Be told of these topics no longer, or of none at all; generation 2."""
        report = await self._read(
            Report, "unsubscribe_events", given(topics=None if topics is None else list(topics))
        )
        for topic in tuple(self._subscriptions) if topics is None else topics:
            self._subscriptions.pop(topic, None)
        return report

    async def get_subscription_stats(self) -> Report:
        """Figures about subscriptions; generation 2."""
        return await self._read(Report, "get_subscription_stats")
