"""The maker's streams: pictures at an interval, and video."""

from asynccam.systems.nanocam.csi.streams import ImageResult, ImageStream, VideoResult, VideoStream

__all__ = ["ImageResult", "ImageStream", "VideoResult", "VideoStream"]
