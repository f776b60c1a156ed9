"""Takes: different cameras started together and stopped, with all files downloaded and a manifest."""

from asynccam.model.info import CheckResult
from asynccam.take.align import (
    AlignedCamera,
    AlignedFile,
    Alignment,
    CutPoint,
    align_take,
    read_frame_times,
)
from asynccam.take.clocks import TimeServer
from asynccam.take.collector import FileCheck
from asynccam.take.frame_times import FrameTimes, TimedFile, TimedFrame
from asynccam.take.participant import TakeLimits
from asynccam.take.resume import Connector, resume_take
from asynccam.take.take import Take, TakeState

__all__ = [
    "AlignedCamera",
    "AlignedFile",
    "Alignment",
    "CheckResult",
    "Connector",
    "CutPoint",
    "FileCheck",
    "FrameTimes",
    "Take",
    "TakeLimits",
    "TakeState",
    "TimeServer",
    "TimedFile",
    "TimedFrame",
    "align_take",
    "read_frame_times",
    "resume_take",
]
