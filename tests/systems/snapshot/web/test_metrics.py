"""``/metrics``."""

from pathlib import Path

import prometheus_client
from prometheus_client.parser import text_string_to_metric_families

from tests.systems.snapshot.web.rig import Rig, serving


async def values(rig: Rig) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample that is shown."""
    async with rig.http.get("/metrics") as answer:
        assert answer.content_type == "text/plain"
        text = await answer.text()
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


async def test_metrics_count_captures_requests_and_refusals(tmp_path: Path) -> None:
    async with serving(tmp_path, ["left"]) as rig:
        await rig.add("broken", "fail")
        await rig.json("/api/snapshot/left")
        await rig.json("/api/snapshot/broken", status=500)
        await rig.json("/api/snapshot/one", status=404)
        await rig.json("/api/v1/cameras", headers={"Host": "evil.example"}, status=421)
        found = await values(rig)

        def value(name: str, **labels: str) -> float:
            return found[(f"asynccam_snapshot_{name}", frozenset(labels.items()))]

        assert value("captures_total", camera="left", result="done") == 1
        assert value("captures_total", camera="broken", result="failed") == 1
        assert value("capture_seconds_count", camera="left") == 1
        route = "/api/snapshot/{camera_name}"
        for status in ("200", "404", "500"):
            assert value("requests_total", method="GET", route=route, status=status) == 1
        assert value("refused_total", reason="unknown_host") == 1
        assert value("cameras") == 2
        assert value("pictures") == 1
        assert value("pictures_bytes") == rig.service.store.size
        assert value("imu_connected") == 0


async def test_metrics_do_not_grow_with_unknown_paths(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        for number in range(20):
            await rig.raw(f"GET /path-{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            await rig.raw(f"WORD{number} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        requests = [labels for name, labels in await values(rig) if name.endswith("requests_total")]
        assert len(requests) <= 4
        assert all("path-" not in str(one) for one in requests)


async def test_metrics_leave_the_default_registry_alone(tmp_path: Path) -> None:
    before = prometheus_client.generate_latest()
    async with serving(tmp_path) as rig:
        await rig.json("/healthz")
    names = {
        line.split(b" ")[2] for line in prometheus_client.generate_latest().splitlines() if line[:1] == b"#"
    }
    assert names == {line.split(b" ")[2] for line in before.splitlines() if line[:1] == b"#"}
