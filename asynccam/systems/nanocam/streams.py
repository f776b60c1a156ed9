"""The maker's streams: pictures at an interval, and video."""

from asynccam.systems.nanocam.csi.image_stream import ImageResult, ImageStream
from asynccam.systems.nanocam.csi.video_stream import VideoResult, VideoStream

__all__ = ["ImageResult", "ImageStream", "VideoResult", "VideoStream"]
