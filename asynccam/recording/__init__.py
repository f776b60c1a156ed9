"""Recorders that run GStreamer as a subprocess, and verdicts on the files."""

from asynccam.model.coverage import EarlyEnd, LateBegin
from asynccam.model.info import FrameTime
from asynccam.recording.events import (
    EndReason,
    Gap,
    RecorderDiskLow,
    RecorderEnded,
    RecorderEvent,
    RecorderOtherStream,
    RecorderProgress,
    RecorderResumed,
    RecorderSegmentClosed,
    RecorderStalled,
    RecorderStarted,
    RecorderState,
)
from asynccam.recording.frame_times import frame_times
from asynccam.recording.outputs import HlsFiles, SingleFile, SplitFiles
from asynccam.recording.pipeline import Pipeline
from asynccam.recording.process import StopDeadlines
from asynccam.recording.recorder import Limits, Recorder, Watch
from asynccam.recording.sources import RtpSource, RtspSource, SrtJpegSource, TestPattern, V4l2Source
from asynccam.recording.verify import FileVerdict, Verdict, verify_file

__all__ = [
    "EarlyEnd",
    "EndReason",
    "FileVerdict",
    "FrameTime",
    "Gap",
    "HlsFiles",
    "LateBegin",
    "Limits",
    "Pipeline",
    "Recorder",
    "RecorderDiskLow",
    "RecorderEnded",
    "RecorderEvent",
    "RecorderOtherStream",
    "RecorderProgress",
    "RecorderResumed",
    "RecorderSegmentClosed",
    "RecorderStalled",
    "RecorderStarted",
    "RecorderState",
    "RtpSource",
    "RtspSource",
    "SingleFile",
    "SplitFiles",
    "SrtJpegSource",
    "StopDeadlines",
    "TestPattern",
    "V4l2Source",
    "Verdict",
    "Watch",
    "frame_times",
    "verify_file",
]
