"""Access policy: hosts, origins, tokens, bodies and names."""

from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccam.errors import UsageError
from asynccam.systems.snapshot.server.middleware import COOKIE, COOKIE_SECONDS, AccessPolicy
from tests.systems.snapshot.web.rig import TOKEN, Rig, serving

CLOSE = "Connection: close\r\n"


async def status(rig: Rig, method: str, path: str, *headers: str, body: str = "") -> int:
    """The status of a request whose head is exactly this."""
    lines = "".join(f"{one}\r\n" for one in headers)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    answer = await rig.raw(f"{method} {path} HTTP/1.1\r\n{lines}{length}{CLOSE}\r\n{body}".encode("latin-1"))
    return int(answer.split(b" ")[1])


# -- hosts: DNS rebinding ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:88", True),
        ("[::1]:88", True),
        ("192.168.1.20:88", True),
        ("localhost:88", True),
        ("raspberrypi", True),
        ("raspberrypi.local:88", True),
        ("camera.lan", True),
        ("cameras.example.org", True),
        ("CAMERAS.example.org.:88", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("cameras.example.org.evil.example", False),
        ("localhost.evil.example:88", False),
        ("evil.example@127.0.0.1", False),
        ("127.0.0.1:port", False),
        ("127.0.0.1/evil.example", False),
        ("", False),
    ],
)
async def test_policy_refuses_unknown_host(host: str, allowed: bool, tmp_path: Path) -> None:
    async with serving(tmp_path, hosts=["cameras.example.org"]) as rig:
        for path in ("/api/cameras", "/", "/healthz", "/api/v1/cameras"):
            found = await status(rig, "GET", path, f"Host: {host}")
            # A head that no HTTP allows is refused before the rule is asked.
            assert found == 200 if allowed else found in (421, 400), found


@pytest.mark.parametrize(("version", "found"), [("1.0", 200), ("1.1", 400)])
async def test_policy_accepts_http_1_0_without_host(version: str, found: int, tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        for path in ("/healthz", "/api/cameras", "/api/snapshot/left"):
            answer = await rig.raw(f"GET {path} HTTP/{version}\r\n{CLOSE}\r\n".encode())
            assert int(answer.split(b" ")[1]) == found
        posed = await rig.raw(b"GET /api/snapshot/left HTTP/1.0\r\nOrigin: http://evil.example\r\n\r\n")
        assert int(posed.split(b" ")[1]) == 403


# -- other sites ---------------------------------------------------------------------------------

ACTING = [
    ("GET", "/api/snapshot/left"),
    ("POST", "/api/snapshot/left"),
    ("GET", "/api/snapshot/all"),
    ("POST", "/ui/snapshot/left"),
    ("POST", "/settings/add"),
    ("POST", "/settings/delete/left"),
    ("POST", "/api/v1/cameras"),
    ("DELETE", "/api/v1/cameras/left"),
    ("POST", "/api/v1/cameras/left/captures"),
    ("DELETE", "/api/v1/snapshots/x.jpg"),
    ("POST", "/logout"),
]
FOREIGN = [
    "Origin: http://evil.example",
    "Origin: null",
    "Origin: http://127.0.0.1:1",
    "Origin: nonsense://[",
    "Referer: http://evil.example/page",
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Site: same-site",
]


@pytest.mark.parametrize("header", FOREIGN)
async def test_policy_refuses_changes_by_other_sites(header: str, tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        for method, path in ACTING:
            assert await status(rig, method, path, "Host: 127.0.0.1:88", header) == 403, path
        # To read does no harm: without CORS the other page does not get to see it.
        assert await status(rig, "GET", "/api/cameras", "Host: 127.0.0.1:88", header) == 200
        assert len(rig.service.store) == 0
        assert len(rig.service.cameras()) == 1


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Origin: http://127.0.0.1:88",),
        ("Referer: http://127.0.0.1:88/settings",),
        ("Sec-Fetch-Site: same-origin", "Origin: http://127.0.0.1:88"),
        ("Sec-Fetch-Site: none",),
        ("Origin: https://cameras.example.org",),
    ],
)
async def test_policy_accepts_scripts_and_the_page(headers: tuple[str, ...], tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"], hosts=["cameras.example.org"]) as rig:
        assert await status(rig, "POST", "/api/snapshot/left", "Host: 127.0.0.1:88", *headers) == 200


CHROMIUM = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36"


@pytest.mark.parametrize("sign", [CHROMIUM, "User-Agent: Opera/9.80", "Upgrade-Insecure-Requests: 1"])
@pytest.mark.parametrize("path", ["/api/snapshot/left", "/api/snapshot/all", "/api/snapshot%2fall"])
async def test_policy_refuses_captures_of_hidden_pages(sign: str, path: str, tmp_path: Path) -> None:
    """Plain HTTP to a local network and ``referrerpolicy="no-referrer"``: an image of another site's page."""
    host = "Host: 192.168.1.20:88"
    async with serving(tmp_path, ["left"]) as rig:
        for method in ("GET", "HEAD"):
            assert await status(rig, method, path, host, sign) == 403
            for header in FOREIGN:
                assert await status(rig, method, path, host, sign, header) == 403
        assert len(rig.service.store) == 0
        for proof in ("Referer: http://192.168.1.20:88/", "Origin: http://192.168.1.20:88"):
            assert await status(rig, "GET", "/api/snapshot/left", host, sign, proof) == 200
        for proof in ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none"):
            assert await status(rig, "GET", "/api/snapshot/left", host, sign, proof) == 200
        assert await status(rig, "GET", "/api/cameras", host, sign) == 200


@pytest.mark.parametrize(
    "agent", ["python-requests/2.32.3", "curl/8.5.0", "aiohttp/3.9", "okhttp/4.12.0", ""]
)
async def test_policy_accepts_captures_by_get_of_programs(agent: str, tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        header = f"User-Agent: {agent}" if agent else "Accept: */*"
        assert await status(rig, "GET", "/api/snapshot/left", "Host: 192.168.1.20:88", header) == 200


async def test_policy_accepts_signed_in_browser(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"], token=TOKEN) as rig:
        host, path = "Host: 192.168.1.20:88", "/api/snapshot/left"
        cookie = f"Cookie: {COOKIE}={AccessPolicy(token=TOKEN).cookie()}"  # SameSite=Strict
        assert await status(rig, "GET", path, host, CHROMIUM) == 403
        assert await status(rig, "GET", path, host, CHROMIUM, cookie) == 200
        assert await status(rig, "GET", path, host, CHROMIUM, cookie, "Sec-Fetch-Site: cross-site") == 403
        assert await status(rig, "GET", path, host, CHROMIUM, f"Authorization: Bearer {TOKEN}") == 200


# -- the token -----------------------------------------------------------------------------------


async def test_policy_requires_the_token(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"], token=TOKEN) as rig:
        name = (await rig.service.capture("left")).filename
        host = "Host: 127.0.0.1"
        for method, path in [
            *ACTING,
            ("GET", "/api/cameras"),
            ("GET", f"/snapshots/{name}"),
            ("GET", f"/download/{name}"),
            ("GET", "/metrics"),
            ("GET", "/api/v1/openapi.json"),
            ("GET", "/api/v1/events"),
            ("GET", f"/api/v1/snapshots/{name}/thumbnail"),
            ("GET", "/nowhere"),
        ]:
            for header in ("X: y", "Authorization: Bearer wrong", f"Authorization: Basic {TOKEN}"):
                assert await status(rig, method, path, host, header) == 401, path
        for path in ("/", "/settings"):
            answer = await rig.raw(f"GET {path} HTTP/1.1\r\n{host}\r\n{CLOSE}\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 302 ")
            assert b"\r\nLocation: login" in answer
        for path in ("/healthz", "/login", "/static/page.css"):
            assert await status(rig, "GET", path, host) == 200
        assert len(rig.service.store) == 1


async def test_policy_accepts_the_token(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"], token=TOKEN) as rig:
        headers = {"Authorization": f"bearer {TOKEN}"}
        assert (await rig.json("/api/snapshot/left", headers=headers))["success"]


async def test_login_sets_a_cookie_hidden_from_scripts(tmp_path: Path) -> None:
    async with serving(tmp_path, token=TOKEN) as rig:
        wrong = {"token": "wrong", "next": "settings"}
        async with rig.http.post("/login", data=wrong, allow_redirects=False) as answer:
            assert answer.status == 401
            assert "not the token" in await answer.text()
            assert "Set-Cookie" not in answer.headers
        for there, place in (("settings", "settings"), ("//evil.example", "./"), ("", "./")):
            form = {"token": TOKEN, "next": there}
            async with rig.http.post("/login", data=form, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (302, place)
                cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        value = cookie.split(";")[0]
        assert await rig.json("/api/cameras", headers={"Cookie": value}) == []
        async with rig.http.get("/", headers={"Cookie": value}) as answer:
            assert "Sign out" in await answer.text()
        async with rig.http.post("/logout", headers={"Cookie": value}, allow_redirects=False) as answer:
            assert f'{COOKIE}=""' in answer.headers["Set-Cookie"]


@pytest.mark.parametrize("change", ["later", "cut", "other", "empty", "odd"])
async def test_policy_refuses_forged_cookie(change: str, tmp_path: Path) -> None:
    until, _, signature = AccessPolicy(token=TOKEN).cookie().partition(".")
    value = {
        "later": f"{int(until) + 1}.{signature}",
        "cut": f"{until}.{signature[:-1]}",
        "other": AccessPolicy(token=TOKEN + "!").cookie(),
        "empty": ".",
        "odd": "²." + signature,
    }[change]
    async with serving(tmp_path, token=TOKEN) as rig:
        head = f"GET /api/cameras HTTP/1.1\r\nHost: localhost\r\nCookie: {COOKIE}={value}\r\n{CLOSE}\r\n"
        assert (await rig.raw(head.encode())).startswith(b"HTTP/1.1 401 ")


async def test_policy_refuses_expired_cookie(tmp_path: Path) -> None:
    long_ago = AccessPolicy(token=TOKEN, clock=lambda: 1_000_000_000.0).cookie()
    assert long_ago.startswith(str(1_000_000_000 + COOKIE_SECONDS))
    async with serving(tmp_path, token=TOKEN) as rig:
        await rig.json("/api/cameras", headers={"Cookie": f"{COOKIE}={long_ago}"}, status=401)


def test_policy_refuses_short_token() -> None:
    with pytest.raises(UsageError, match="16 characters"):
        AccessPolicy(token="short")


@given(st.text())
def test_policy_compares_any_text(text: str) -> None:
    assert AccessPolicy(token=TOKEN).accepts(text) == (text == TOKEN)
    assert not AccessPolicy().accepts(text)


# -- names, headers, bodies ----------------------------------------------------------------------

TRAVERSALS = [
    "../config.json",
    "..%2fconfig.json",
    "%2e%2e%2fconfig.json",
    "..%5cconfig.json",
    "%2fetc%2fpasswd",
]
TRAVERSALS += ["....//config.json", "%00.jpg", ".hidden.jpg", "a%0d%0aSet-Cookie:%20x=y.jpg", "%ff%fe.jpg"]


@pytest.mark.parametrize("name", TRAVERSALS)
async def test_file_name_is_never_a_path_or_header(name: str, tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        (tmp_path / "snapshots" / ".hidden.jpg").write_bytes(b"secret")
        for route in ("/snapshots/", "/download/", "/static/", "/api/v1/snapshots/"):
            method = "DELETE" if "v1" in route else "GET"
            data = f"{method} {route}{name} HTTP/1.1\r\nHost: localhost\r\n{CLOSE}\r\n"
            answer = await rig.raw(data.encode())
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.split(b" ")[1] in (b"400", b"404", b"405"), head
            assert b"set-cookie" not in head.lower()
            assert b"left" not in body
            assert b"root:" not in body
        assert rig.config.exists()
        assert (tmp_path / "snapshots" / ".hidden.jpg").exists()


async def test_file_name_with_line_breaks_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        fields = rig.camera("x") | {"name": "a\r\nSet-Cookie: x=y"}
        answer = await rig.json("/api/v1/cameras", "POST", json=fields, status=422)
        assert answer["problems"][0]["field"] == "name"


@pytest.mark.parametrize("path", ["/api/v1/cameras", "/settings/add", "/api/snapshot/left", "/login"])
async def test_body_is_limited(path: str, tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        announced = await rig.raw(f"{head}Content-Length: 99999999\r\n\r\n".encode())
        assert announced.startswith(b"HTTP/1.1 413 ")
        assert len(rig.service.store) == 0


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/api/v1/cameras", "application/json"), ("/login", "application/x-www-form-urlencoded")],
)
async def test_endless_body_is_cut_off(path: str, kind: str, tmp_path: Path) -> None:
    chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
    async with serving(tmp_path) as rig:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{CLOSE}"
        answer = await rig.raw(
            head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 9 + b"0\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 413 ")


async def test_uploads_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        for path in ("/settings/add", "/api/v1/cameras", "/api/snapshot/left"):
            with_file = aiohttp.FormData()
            with_file.add_field("file", b"data" * 100, filename="picture.jpg")
            async with rig.http.post(path, data=with_file) as answer:
                assert answer.status == 415, path
        assert len(rig.service.store) == 0


PATHS = [
    "/",
    "/settings",
    "/api/cameras",
    "/nowhere",
    "/api/v1/nowhere",
    "/static/page.js",
    "/metrics",
    "/login",
]


@pytest.mark.parametrize("path", PATHS)
async def test_every_response_has_strict_headers(path: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, rig.http.get(path) as answer:
        policy = dict(
            one.strip().split(" ", 1) for one in answer.headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "Access-Control-Allow-Origin" not in answer.headers
