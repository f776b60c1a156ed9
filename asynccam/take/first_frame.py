"""When each camera saw its first frame, inferred with a bound where no camera or recorder tells."""

from typing import Final

from asynccam.model.manifest import CameraRecord, Manifest, Moment, StartRecord

SCHEDULE_BOUND: Final = 0.1
"""Seconds by which a device may miss the moment it promised: makers of phones state 50 to 100 ms."""


def infer_first_frames(manifest: Manifest) -> None:
    """Fill in the first frames that nobody told, from what bounds them.

    A scheduled start is taken at its word, with a bound that covers what the makers state and all
    that the device's clock was found to be off. Any other first frame came between the command and
    the answer. See docs/aligning.md.
    """
    for camera in manifest.cameras:
        if camera.first_frame_at is not None and camera.first_frame_source in (None, "seen"):
            continue
        if camera.commanded_at is None or camera.accepted_at is None:
            continue
        if manifest.start is not None and _is_scheduled(camera, manifest.start):
            camera.first_frame_at = manifest.start.t0_computer
            camera.first_frame_bound = _schedule_bound(camera, manifest.start)
            camera.first_frame_source = "schedule"
        else:
            earliest, latest = camera.commanded_at.unix, camera.accepted_at.unix
            camera.first_frame_at = Moment.of((earliest + latest) / 2)
            camera.first_frame_bound = max(0.0, latest - earliest) / 2
            camera.first_frame_source = "answer"


def _is_scheduled(camera: CameraRecord, start: StartRecord) -> bool:
    """Whether it promised its moment, or answered before it could have started."""
    early = camera.accepted_at is not None and camera.accepted_at.unix < start.t0_computer.unix
    return camera.scheduled_for is not None or (early and "scheduled_start" in camera.features)


def _schedule_bound(camera: CameraRecord, start: StartRecord) -> float:
    bound = SCHEDULE_BOUND + (start.clock.bound if start.clock else 0.0)
    return bound + (abs(camera.clock.offset) + camera.clock.bound if camera.clock else 0.0)
