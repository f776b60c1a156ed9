"""AWS Signature Version 4 for one request, without I/O; UPLOAD_TO_CLOUD with IAM fields needs it.

See the AWS documentation, "Signature Calculations for the Authorization Header".
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
"""Replaces the digest of a body that is streamed and not read twice."""


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """AWS credentials, never shown; ``session_token`` is ``""`` unless they are temporary."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    region: str


def object_url(bucket: str, key: str, region: str, *, endpoint: str | None = None) -> str:
    """Return an object's URL, percent-encoded as it is signed; ``endpoint`` replaces Amazon's server."""
    path = quote(key, safe="/-_.~")
    if endpoint is not None:
        return f"{endpoint.rstrip('/')}/{bucket}/{path}"
    # Amazon's wildcard certificate does not cover a bucket name with dots as a host name.
    if "." in bucket:
        return f"https://s3.{region}.amazonaws.com/{bucket}/{path}"
    return f"https://{bucket}.s3.{region}.amazonaws.com/{path}"


def sign(
    method: str,
    url: str,
    credentials: AwsCredentials,
    when: float,
    *,
    headers: Mapping[str, str] | None = None,
    payload: str = UNSIGNED_PAYLOAD,
) -> dict[str, str]:
    """Return ``headers`` and those that sign a request to S3, ``Authorization`` among them.

    ``url`` is percent-encoded and without a query, ``when`` Unix seconds (S3 tolerates 15 minutes),
    ``payload`` the hexadecimal SHA-256 of the body.
    """
    moment = datetime.fromtimestamp(when, UTC).strftime("%Y%m%dT%H%M%SZ")
    parts = urlsplit(url)
    result = {**(headers or {}), "x-amz-content-sha256": payload, "x-amz-date": moment}
    if credentials.session_token:
        result["x-amz-security-token"] = credentials.session_token
    signed = {name.lower(): " ".join(value.split()) for name, value in result.items()}
    signed["host"] = parts.netloc
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = f"{method}\n{parts.path or '/'}\n\n{lines}\n{names}\n{payload}"
    scope = f"{moment[:8]}/{credentials.region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}".encode(), "sha256").hex()
    result["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key_id}/{scope},"
        f"SignedHeaders={names},Signature={signature}"
    )
    return result
