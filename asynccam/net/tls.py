"""TLS contexts, built off the loop: loading the system's certificates takes tens of milliseconds."""

import asyncio
import ssl
from pathlib import Path

from asynccam.errors import StorageError


async def client_context(*, verify: bool = True, ca_file: Path | None = None) -> ssl.SSLContext:
    """Return a context for connecting to servers; ``verify`` is for certificate and host name.

    ``ca_file`` holds PEM certificates to trust instead of the system's. `StorageError` if it holds none or
    cannot be read.
    """
    return await asyncio.to_thread(_build, verify, ca_file)


def untrusted(url: str, error: Exception) -> str:
    """Return the error text for a refused certificate; ``url`` must be without credentials."""
    why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
    return f"the certificate of {url} is not trusted: {why.rstrip('.')}"


def _build(verify: bool, ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise StorageError(f"cannot read certificates from {ca_file}: {error.strerror or error}") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
