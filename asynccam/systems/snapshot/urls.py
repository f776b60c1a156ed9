"""Where things are at a server: its base URL may have a path, and names may hold anything."""

import re
from typing import Final
from urllib.parse import quote, unquote

from yarl import URL

from asynccam.errors import AddressError, UsageError
from asynccam.model.address import Address
from asynccam.systems.snapshot.errors import RemoteProtocolError
from asynccam.systems.snapshot.models import CameraResult, SnapshotResult

TAKEN: Final = ("all", "stereo")
"""Names by which servers understand several cameras."""
_SNAPSHOTS: Final = "/snapshots/"
_ABSOLUTE: Final = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?//([^/?#]*)")
_QUERY: Final = re.compile(r"\?(?=[^/?]*=)|(?<=\.jpg)\?|(?<=\.jpeg)\?", re.IGNORECASE)
"""Where a query begins; any other question mark belongs to a name that was not encoded."""
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE: Final = "/%:@!$&'()*+,;=~"


class Places:
    """Addresses below one base URL, ready to be sent.

    Args:
        base_url: ``http://HOST:PORT``, perhaps with a path and a slash at its end.

    Attributes:
        base: The base URL without a slash at its end.
        path: Its path, ``""`` for none.
        url: The same as a `yarl.URL`.
        address: The same as an address without a camera.
        cameras: Of the list of cameras.
        all: Of a capture of all cameras.
        stereo: Of a capture of the stereo pair.

    Raises:
        AddressError: It is no HTTP address, or carries credentials, a query or a fragment.
    """

    def __init__(self, base_url: str) -> None:
        try:
            url = URL(base_url.encode().decode().strip())  # what is no Unicode would be left out
            valid = url.scheme in ("http", "https") and bool(url.host)
            port = url.port
        except ValueError:
            valid, port = False, None
        if not valid or not port:
            raise AddressError(f"{base_url!r} is no address of a server; write http://HOST[:PORT][/PATH]")
        if url.user is not None or url.password is not None:
            raise AddressError("the address of a server carries no credentials; pass a token instead")
        if url.raw_query_string or url.raw_fragment:
            raise AddressError(
                f"{base_url!r} has a query or a fragment, which the address of a server has not"
            )
        self.path = url.raw_path.rstrip("/")
        secure = url.scheme == "https"
        address = Address("snapshot", url.raw_host or "", port, secure=secure, path=self.path)
        self.address = Address.parse(str(address))  # what is told can be given back, or is refused here
        self.url = url.with_path(self.path, encoded=True)
        self.base = str(self.url.origin()) + self.path
        self.cameras = self._at("/api/cameras")
        self.all = self._at("/api/snapshot/all")
        self.stereo = self._at("/api/snapshot/stereo")

    def capture(self, name: str) -> URL:
        """Of a capture of one camera.

        Raises:
            UsageError: Servers take the name for something else, or it is no Unicode.
        """
        _check_text(name)
        if not name or name in TAKEN:
            raise UsageError(
                f"a camera named {name!r} cannot be asked for singly: servers take that for something else; "
                "its picture is among those of snapshot_all_cameras()"
            )
        # Between slashes, dots alone would mean another directory.
        encoded = quote(name, safe="") if name.strip(".") else "%2E" * len(name)
        return self._at(f"/api/snapshot/{encoded}")

    def stored(self, camera: str | None, after: str | None) -> URL:
        """Of a list of the pictures there are, at servers of our own."""
        query = {"limit": "1000", "camera": camera, "after": after}
        words = "&".join(
            f"{key}={quote(value, safe='')}" for key, value in query.items() if value is not None
        )
        return self._at(f"/api/v1/snapshots?{words}")

    def image(self, path: str) -> URL:
        """Of a picture, from what the server calls its path.

        Raises:
            RemoteProtocolError: It leads to another server.
            UsageError: It is no Unicode.
        """
        _check_text(path)
        own = self.url.origin()
        if whole := _ABSOLUTE.match(path):
            scheme, authority = whole[1] or own.scheme, whole[2]
            try:
                here = URL(f"{scheme}://{authority}").origin() == own
            except ValueError:
                here = False
            if not here:
                raise RemoteProtocolError(f"{self.base} names a picture at another server: {path}")
            path = path[whole.end() :]
        encoded = "/" + _encoded(path).removeprefix("/")
        if whole or (path.startswith("/") and self._knows_itself(encoded)):
            return URL(str(own) + encoded, encoded=True)
        return self._at(encoded)

    def _knows_itself(self, path: str) -> bool:
        """Whether a server that lives below a path has put it before that of a picture."""
        if path.startswith(_SNAPSHOTS):  # as servers in the field say it, whatever they live below
            return bool(self.path) and path.startswith(self.path + _SNAPSHOTS)
        return bool(self.path) and path.startswith(f"{self.path}/")

    def _at(self, path: str) -> URL:
        return URL(self.base + path, encoded=True)


def picture_path(picture: SnapshotResult | CameraResult | str) -> str:
    """Where a picture is: as its result says, or where servers keep what has its name.

    Raises:
        RemoteProtocolError: The result names neither.
        UsageError: No path was given.
    """
    if not isinstance(picture, dict):
        if not picture:
            raise UsageError("a picture without a path cannot be fetched")
        return picture
    if path := picture.get("image_url_path"):
        return str(path)
    if name := picture.get("filename"):
        return _SNAPSHOTS + quote(str(name), safe="")
    raise RemoteProtocolError("the server says that it took a picture, and not where it is")


def picture_name(picture: SnapshotResult | CameraResult | str, path: str) -> str:
    """What to call a picture here; not yet safe as a path."""
    named = picture.get("filename") if isinstance(picture, dict) else None
    return str(named or "") or unquote(_QUERY.split(path, 1)[0].rpartition("/")[2]) or "snapshot.jpg"


def _encoded(path: str) -> str:
    """A path and perhaps a query, encoded unless they are."""
    parts = _QUERY.split(_LONE_PERCENT.sub("%25", path), 1)
    return "?".join(quote(part, safe=_SAFE) for part in parts)


def _check_text(text: object) -> None:
    if not isinstance(text, str):  # None for example, out of a result without a picture
        raise UsageError(f"{text!r} is no text, and cannot be asked for")
    try:
        text.encode()
    except UnicodeEncodeError:  # halves of characters
        raise UsageError(f"{text!r} is no Unicode, and cannot be asked for") from None
