"""A take: cameras started together, stopped, and every file brought home with a manifest."""

from asynccam.take.files import Finding, Verify
from asynccam.take.limits import TakeLimits
from asynccam.take.states import TakeState
from asynccam.take.take import Take
from asynccam.take.work import TimeServer

__all__ = ["Finding", "Take", "TakeLimits", "TakeState", "TimeServer", "Verify"]
