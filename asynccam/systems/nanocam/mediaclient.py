"""The media client, under the name the maker's examples import it by."""

from asynccam.systems.nanocam.client import MediaClient

__all__ = ["MediaClient"]
