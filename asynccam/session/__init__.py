"""A session: the cameras of one program and what they share."""

from asynccam.session.fleet import Fleet, FleetError
from asynccam.session.places import CameraTarget, Unavailable
from asynccam.session.session import Session

__all__ = ["Unavailable", "Fleet", "FleetError", "CameraTarget", "Session"]
