"""The media server, under the name the maker's examples import it by."""

from asynccam.systems.nanocam.server.server import MediaServer

__all__ = ["MediaServer"]
