"""A session: the cameras of one program and what they share."""

from asynccam.session.fleet import Fleet, FleetError
from asynccam.session.places import Away, Place
from asynccam.session.session import Session

__all__ = ["Away", "Fleet", "FleetError", "Place", "Session"]
