"""Session: the cameras of one program and what they share."""

from asynccam.session.fleet import Fleet, FleetError
from asynccam.session.session import Session
from asynccam.session.targets import CameraTarget, Unavailable

__all__ = ["CameraTarget", "Fleet", "FleetError", "Session", "Unavailable"]
