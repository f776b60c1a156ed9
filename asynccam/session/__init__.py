"""A session: the cameras of one program and what they share."""

from asynccam.session.session import Session

__all__ = ["Session"]
