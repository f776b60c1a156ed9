"""URLs of a server: its base URL may have a path, and names may contain anything."""

import re
from typing import Final
from urllib.parse import quote, unquote

from yarl import URL

from asynccam.errors import AddressError, UsageError
from asynccam.model.address import Address
from asynccam.systems.snapshot.errors import RemoteProtocolError
from asynccam.systems.snapshot.models import CameraResult, SnapshotResult

GROUP_NAMES: Final = ("all", "stereo")
"""Names that servers take for several cameras."""
_SNAPSHOTS: Final = "/snapshots/"
_ABSOLUTE: Final = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?//([^/?#]*)")
_QUERY: Final = re.compile(r"\?(?=[^/?]*=)|(?<=\.jpg)\?|(?<=\.jpeg)\?", re.IGNORECASE)
"""Beginning of a query; any other question mark belongs to a name that was not encoded."""
_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE: Final = "/%:@!$&'()*+,;=~"


class ServerUrls:
    """URLs below one base URL; ``base`` is the base URL without a slash at its end.

    Raises `AddressError` if it is not an HTTP URL, or contains credentials, a query or a fragment.
    """

    def __init__(self, base_url: str) -> None:
        try:
            url = URL(base_url.encode().decode().strip())  # yarl would drop what is not Unicode
            valid = url.scheme in ("http", "https") and bool(url.host)
            port = url.port
        except ValueError:
            url, valid, port = URL(), False, None
        if not valid or not port:
            raise AddressError(f"{base_url!r} is not the URL of a server; expected http://HOST[:PORT][/PATH]")
        if url.user is not None or url.password is not None:
            raise AddressError("the URL of a server must not contain credentials; pass a token instead")
        if url.raw_query_string or url.raw_fragment:
            raise AddressError(f"the URL of a server must not have a query or a fragment: {base_url!r}")
        self._path = url.raw_path.rstrip("/")
        secure = url.scheme == "https"
        address = Address("snapshot", url.raw_host or "", port, secure=secure, path=self._path)
        self.address = Address.parse(str(address))  # fails here if it could not be parsed again
        self._url = url.with_path(self._path, encoded=True)
        self.base = str(self._url.origin()) + self._path
        self.cameras = self._at("/api/cameras")
        self.all = self._at("/api/snapshot/all")
        self.stereo = self._at("/api/snapshot/stereo")

    def capture(self, name: str) -> URL:
        """Return the URL of a capture with one camera.

        Raises:
            UsageError: Servers take the name for a group, or it is not Unicode.
        """
        _check_text(name)
        if not name or name in GROUP_NAMES:
            raise UsageError(
                f"a camera named {name!r} cannot be asked for singly: servers take that for something else; "
                "its picture is among those of snapshot_all_cameras()"
            )
        # RFC 3986 5.2.4: "." and ".." are removed from a path.
        encoded = quote(name, safe="") if name.strip(".") else "%2E" * len(name)
        return self._at(f"/api/snapshot/{encoded}")

    def stored(self, camera: str | None, after: str | None) -> URL:
        """Return the URL of a page of stored pictures, of an asynccam server."""
        query = {"limit": "1000", "camera": camera, "after": after}
        parameters = "&".join(
            f"{key}={quote(value, safe='')}" for key, value in query.items() if value is not None
        )
        return self._at(f"/api/v1/snapshots?{parameters}")

    def image(self, path: str) -> URL:
        """Return the URL of a picture, from the path that the server sent.

        Raises `RemoteProtocolError` if it is on another server, `UsageError` if it is not Unicode.
        """
        _check_text(path)
        own = self._url.origin()
        if absolute := _ABSOLUTE.match(path):
            scheme, authority = absolute[1] or own.scheme, absolute[2]
            try:
                same_server = URL(f"{scheme}://{authority}").origin() == own
            except ValueError:
                same_server = False
            if not same_server:
                raise RemoteProtocolError(f"{self.base} sent the path of a picture on another server: {path}")
            path = path[absolute.end() :]
        encoded = "/" + _encoded(path).removeprefix("/")
        if absolute or (path.startswith("/") and self._includes_base(encoded)):
            return URL(str(own) + encoded, encoded=True)
        return self._at(encoded)

    def _includes_base(self, path: str) -> bool:
        """Return whether a server below a base path has included it in the path of a picture."""
        # Existing servers never include it in "/snapshots/NAME", whatever the base path is.
        rest = _SNAPSHOTS if path.startswith(_SNAPSHOTS) else "/"
        return bool(self._path) and path.startswith(self._path + rest)

    def _at(self, path: str) -> URL:
        return URL(self.base + path, encoded=True)


def picture_path(picture: SnapshotResult | CameraResult | str) -> str:
    """Return the path of a picture, from its result or from its file name.

    Raises `RemoteProtocolError` if the result has neither, `UsageError` if the path is empty.
    """
    if not isinstance(picture, dict):
        if not picture:
            raise UsageError("the path of the picture is empty")
        return picture
    if path := picture.get("image_url_path"):
        return str(path)
    if name := picture.get("filename"):
        return _SNAPSHOTS + quote(str(name), safe="")
    raise RemoteProtocolError("the server took a picture, but did not send its path")


def picture_name(picture: SnapshotResult | CameraResult | str, path: str) -> str:
    """Return a name for the file of a picture; not safe as a path."""
    named = picture.get("filename") if isinstance(picture, dict) else None
    return str(named or "") or unquote(_QUERY.split(path, 1)[0].rpartition("/")[2]) or "snapshot.jpg"


def _encoded(path: str) -> str:
    """Encode a path and its query, if any, unless they are encoded."""
    parts = _QUERY.split(_LONE_PERCENT.sub("%25", path), 1)
    return "?".join(quote(part, safe=_SAFE) for part in parts)


def _check_text(text: object) -> None:
    if not isinstance(text, str):  # None, for example, of a result without a picture
        raise UsageError(f"expected a string, not {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        raise UsageError(f"{text!r} is not Unicode, and cannot be part of a URL") from None
