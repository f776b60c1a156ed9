"""AWS Signature Version 4 for one request: what UPLOAD_TO_CLOUD with IAM fields needs of Amazon S3.

Without I/O: the same arguments always give the same headers. See the AWS documentation,
"Signature Calculations for the Authorization Header".
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
"""Stands for the digest of a body that is streamed and not read twice."""


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """What signs a request; never shown.

    Attributes:
        access_key_id: Public half of the key.
        secret_access_key: Secret half.
        session_token: Of temporary credentials, else ``""``.
        region: AWS region, ``eu-central-1`` for example.
    """

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    region: str


def object_url(bucket: str, key: str, region: str, *, endpoint: str | None = None) -> str:
    """Where an object is written, percent-encoded as it is signed.

    Args:
        bucket: Bucket name; one with dots is put into the path, as no certificate covers it.
        key: Object key; its slashes stay.
        region: AWS region.
        endpoint: Another server that speaks S3, ``http://host:9000`` for example; None for Amazon.
    """
    path = quote(key, safe="/-_.~")
    if endpoint is not None:
        return f"{endpoint.rstrip('/')}/{bucket}/{path}"
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
    """The headers that make a request to S3 authentic.

    Args:
        method: HTTP method.
        url: Percent-encoded, without a query.
        credentials: Whose request it is.
        when: Unix seconds; S3 tolerates 15 minutes.
        headers: Further headers to sign.
        payload: Hexadecimal SHA-256 of the body.

    Returns:
        ``headers`` and those that sign them, ``Authorization`` among them.
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
