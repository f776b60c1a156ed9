"""Signatures against the worked examples of the AWS documentation ("Authenticating Requests: Using the
Authorization Header", Examples: Signature Calculations)."""

import hashlib
from datetime import UTC, datetime

from asynccam.systems.multicam.device.s3 import UNSIGNED_PAYLOAD, AwsCredentials, object_url, sign

CREDENTIALS = AwsCredentials(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", "us-east-1"
)
WHEN = datetime(2013, 5, 24, tzinfo=UTC).timestamp()


def test_sign_documented_put() -> None:
    headers = sign(
        "PUT",
        "https://examplebucket.s3.amazonaws.com/test%24file.text",
        CREDENTIALS,
        WHEN,
        headers={"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
        payload=hashlib.sha256(b"Welcome to Amazon S3.").hexdigest(),
    )
    assert headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,"
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_sign_documented_get() -> None:
    headers = sign(
        "GET",
        "https://examplebucket.s3.amazonaws.com/test.txt",
        CREDENTIALS,
        WHEN,
        headers={"Range": "bytes=0-9"},
        payload=hashlib.sha256(b"").hexdigest(),
    )
    assert headers["Authorization"].endswith(
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_sign_session_token() -> None:
    temporary = AwsCredentials("AKIA", "secret", "the token", "eu-central-1")
    headers = sign("PUT", "https://b.s3.eu-central-1.amazonaws.com/k", temporary, WHEN)
    assert headers["x-amz-security-token"] == "the token"
    assert headers["x-amz-content-sha256"] == UNSIGNED_PAYLOAD
    assert "x-amz-date;x-amz-security-token," in headers["Authorization"]


def test_object_urls() -> None:
    assert (
        object_url("takes", "a b/c$ü.mp4", "eu-west-1")
        == "https://takes.s3.eu-west-1.amazonaws.com/a%20b/c%24%C3%BC.mp4"
    )
    assert object_url("my.takes", "k", "eu-west-1") == "https://s3.eu-west-1.amazonaws.com/my.takes/k"
    assert object_url("takes", "k", "x", endpoint="http://host:9000/") == "http://host:9000/takes/k"


def test_credentials_are_never_shown() -> None:
    assert "AKIA" not in repr(CREDENTIALS)
    assert "wJal" not in repr(CREDENTIALS)
