"""A MultiCam device server as one coroutine: what ``asynccam serve multicam`` runs."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from zeroconf import InterfaceChoice

from asynccam.net.mdns import Interfaces
from asynccam.recording.sources import Source, TestPattern, V4l2Source
from asynccam.systems.multicam.device.clock import NtpOffset
from asynccam.systems.multicam.device.device import MultiCamDevice
from asynccam.systems.multicam.device.faults import DeviceFaults
from asynccam.systems.multicam.device.recorder import GstRecorder
from asynccam.systems.multicam.models import TCP_PORT


async def serve(
    directory: Path,
    *,
    host: str = "0.0.0.0",  # noqa: S104 - a device is there to be reached
    port: int = TCP_PORT,
    device_id: str = "",
    dialect: int = 2,
    camera: str | None = None,
    pattern: str = "ball",
    label: str = "",
    ntp_server: str | None = None,
    require_sync: bool = False,
    announce: bool = True,
    interfaces: Interfaces = InterfaceChoice.All,
    faults: DeviceFaults | None = None,
    upload_to: Iterable[str] = (),
    on_ready: Callable[[MultiCamDevice], None] = lambda _: None,
) -> None:
    """Be a MultiCam device until cancelled; a running recording is then finished first.

    Args:
        directory: Where recordings are kept.
        host: Address to listen at.
        port: TCP port; 0 takes a free one.
        device_id: Who this is; the host's name if empty.
        dialect: 1 or 2: whose fields the answers have.
        camera: A V4L2 device file, ``/dev/video0`` for example; None for a moving test picture.
        pattern: The test picture, a GStreamer ``videotestsrc`` pattern.
        label: Text in the test picture, beside the time of day; the id if empty.
        ntp_server: Time scheduled starts by it; None for this computer's clock.
        require_sync: Refuse starts while the time is not known.
        announce: Whether to announce the device by mDNS.
        interfaces: Where mDNS speaks.
        faults: Trouble on purpose.
        upload_to: Hosts that recordings may be uploaded to, as for `MultiCamDevice`.
        on_ready: Called once it listens and is announced.

    Raises:
        UsageError: The dialect, id, source or one of ``upload_to`` is unusable.
        StorageError: The directory cannot be written.
        ConnectionError: The address cannot be listened at, or mDNS cannot be opened.
        BusyError: Another device on this network has that id.
    """
    name = device_id or socket.gethostname()
    source: Source = (
        V4l2Source(camera) if camera else TestPattern(label=label or name, pattern=pattern, time_code="day")
    )
    async with AsyncExitStack() as stack:
        offset = None
        if ntp_server is not None:
            offset = await stack.enter_async_context(NtpOffset(ntp_server))
        device = MultiCamDevice(
            directory,
            host=host,
            port=port,
            device_id=name,
            dialect=dialect,
            recorder=GstRecorder(source),
            clock_offset=offset,
            require_sync=require_sync,
            announce=announce,
            interfaces=interfaces,
            faults=faults,
            upload_to=upload_to,
        )
        await stack.enter_async_context(device)
        on_ready(device)
        await asyncio.Event().wait()
