"""Fetching through a server that resumes, lies, stalls and breaks off."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from weights_kit import PAYLOAD, PAYLOAD_SHA256, Server, card, entry

from aigve_cli.errors import WeightsError
from aigve_cli.weights import WeightsPolicy, locate_weights
from aigve_cli.weights.download import CHUNK_BYTES, announced_progress, download

HALF = len(PAYLOAD) // 2


def leave_part(policy: WeightsPolicy, data: bytes, source: str = "") -> Path:
    """What an interrupted download leaves."""
    policy.cache_dir.mkdir(parents=True, exist_ok=True)
    part = policy.cache_dir / "net.pth.part"
    part.write_bytes(data)
    if source:
        (policy.cache_dir / "net.pth.part.source").write_text(source)
    return part


def names(policy: WeightsPolicy) -> set[str]:
    return {path.name for path in policy.cache_dir.iterdir()}


def test_fetch_announces_and_verifies(
    server: Server, policy: WeightsPolicy, said: list[str]
) -> None:
    url = server.serve("/net.pth")
    located = locate_weights(card(url), policy)
    assert located.path.read_bytes() == PAYLOAD
    assert located.sha256 == PAYLOAD_SHA256
    assert located.verified
    assert located.origin == "standard"
    text = "\n".join(said)
    assert url in text
    assert "0.3 MB" in text
    assert "MIT" in text
    assert names(policy) <= {"net.pth", "net.pth.lock"}
    locate_weights(card(url), policy)
    assert len(server.asked) == 1


def test_resume_asks_for_the_rest_only(server: Server, policy: WeightsPolicy) -> None:
    url = server.serve("/net.pth", stop_after=HALF)
    with pytest.raises(WeightsError, match="closed"):
        locate_weights(card(url), policy)
    part = policy.cache_dir / "net.pth.part"
    kept = part.stat().st_size
    assert HALF - CHUNK_BYTES < kept <= HALF
    assert part.read_bytes() == PAYLOAD[:kept]
    server.serve("/net.pth")
    assert locate_weights(card(url), policy).path.read_bytes() == PAYLOAD
    assert server.asked[1].range == f"bytes={kept}-"
    assert server.asked[1].sent == len(PAYLOAD) - kept
    assert names(policy) <= {"net.pth", "net.pth.lock"}


def test_resume_at_a_mirror_when_a_hash_will_tell(server: Server, policy: WeightsPolicy) -> None:
    first, second = server.serve("/a", stop_after=HALF), server.serve("/b", etag='"other"')
    assert locate_weights(card(first, second), policy).path.read_bytes() == PAYLOAD
    assert (server.asked[1].path, server.asked[1].status) == ("/b", 206)
    assert sum(asked.sent for asked in server.asked) < len(PAYLOAD) + CHUNK_BYTES
    assert server.asked[1].if_range is None


@pytest.mark.parametrize("unknown", [{"sha256": "unknown"}, {"sha256": "unknown", "bytes": None}])
def test_without_a_hash_only_the_same_version_is_resumed(
    server: Server, policy: WeightsPolicy, unknown: dict[str, object]
) -> None:
    url = server.serve("/net.pth")
    leave_part(policy, b"x" * HALF)
    assert locate_weights(card(url, **unknown), policy).path.read_bytes() == PAYLOAD
    assert server.asked[0].range is None

    (policy.cache_dir / "net.pth").unlink()
    leave_part(policy, b"x" * HALF, f'{url}\n"older"')
    assert locate_weights(card(url, **unknown), policy).path.read_bytes() == PAYLOAD
    assert (server.asked[1].if_range, server.asked[1].status) == ('"older"', 200)

    (policy.cache_dir / "net.pth").unlink()
    leave_part(policy, PAYLOAD[:HALF], f'{url}\n"one"')
    located = locate_weights(card(url, **unknown), policy)
    assert located.path.read_bytes() == PAYLOAD
    assert server.asked[2].status == 206
    assert not located.verified
    assert located.sha256 == PAYLOAD_SHA256


def test_a_weak_etag_is_not_built_upon(server: Server, policy: WeightsPolicy) -> None:
    url = server.serve("/net.pth", stop_after=HALF, etag='W/"one"')
    unknown = card(url, sha256="unknown")
    with pytest.raises(WeightsError):
        locate_weights(unknown, policy)
    server.serve("/net.pth", etag='W/"one"')
    locate_weights(unknown, policy)
    assert server.asked[1].range is None


def test_server_without_ranges_starts_again(server: Server, policy: WeightsPolicy) -> None:
    url = server.serve("/net.pth", ranges=False)
    leave_part(policy, b"x" * HALF)
    assert locate_weights(card(url), policy).path.read_bytes() == PAYLOAD
    assert server.asked[0].range == f"bytes={HALF}-"


def test_part_with_wrong_bytes_is_thrown_away(server: Server, policy: WeightsPolicy) -> None:
    url = server.serve("/net.pth")
    leave_part(policy, b"x" * HALF)
    assert locate_weights(card(url), policy).path.read_bytes() == PAYLOAD
    assert [asked.range for asked in server.asked] == [f"bytes={HALF}-", None]


def test_part_longer_than_the_file_is_thrown_away(server: Server, policy: WeightsPolicy) -> None:
    url = server.serve("/net.pth")
    leave_part(policy, PAYLOAD + b"more")
    assert locate_weights(card(url), policy).path.read_bytes() == PAYLOAD
    assert server.asked[0].range is None


def test_part_beyond_the_end_of_an_unknown_length(server: Server, policy: WeightsPolicy) -> None:
    url = server.serve("/net.pth")
    leave_part(policy, PAYLOAD + b"more")
    assert locate_weights(card(url, bytes=None), policy).path.read_bytes() == PAYLOAD
    assert [asked.status for asked in server.asked] == [416, 200]


def test_complete_part_needs_no_request(server: Server, policy: WeightsPolicy) -> None:
    url = server.serve("/net.pth")
    leave_part(policy, PAYLOAD)
    locate_weights(card(url), policy)
    assert server.asked == []


def test_wrong_hash_is_refused(server: Server, policy: WeightsPolicy) -> None:
    other = bytes(len(PAYLOAD))
    with pytest.raises(WeightsError, match="sha256") as caught:
        locate_weights(card(server.serve("/net.pth", body=other)), policy)
    assert PAYLOAD_SHA256 in caught.value.message
    assert caught.value.exit_code == 4
    assert names(policy) <= {"net.pth.lock"}


def test_wrong_size_is_refused_before_the_transfer(server: Server, policy: WeightsPolicy) -> None:
    url = server.serve("/net.pth", body=PAYLOAD[:-1])
    with pytest.raises(WeightsError, match=r"255,999 bytes, the card says 256,000"):
        locate_weights(card(url), policy)


def test_length_that_nobody_said_is_checked_after(server: Server, policy: WeightsPolicy) -> None:
    url = server.serve("/net.pth", body=PAYLOAD[:-1], says_length=False)
    with pytest.raises(WeightsError, match=r"255,999 of 256,000"):
        locate_weights(card(url), policy)


@pytest.mark.parametrize(
    "page",
    [
        {"body": b"<!DOCTYPE html><p>Sign in"},
        {"body": b"\n <HTML>quota exceeded"},
        {"body": PAYLOAD, "content_type": "text/html; charset=utf-8"},
    ],
)
def test_web_page_is_refused_and_keeps_what_is_here(
    server: Server, policy: WeightsPolicy, page: dict[str, object]
) -> None:
    url = server.serve("/net.pth", ranges=False, **page)
    part = leave_part(policy, PAYLOAD[:HALF])
    with pytest.raises(WeightsError, match="web page"):
        locate_weights(card(url, bytes=None), policy)
    assert part.stat().st_size == HALF


def test_503_goes_to_the_mirror(server: Server, policy: WeightsPolicy, said: list[str]) -> None:
    first, second = server.serve("/a", status=503, body=b""), server.serve("/b")
    assert locate_weights(card(first, second), policy).verified
    assert [asked.path for asked in server.asked] == ["/a", "/b"]
    assert any("HTTP 503" in line for line in said)


def test_every_failure_is_listed(server: Server, policy: WeightsPolicy) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/net.pth"
        silent = server.serve("/silent", silent=True)
        gone = server.url + "/gone"
        start = time.monotonic()
        with pytest.raises(WeightsError) as caught:
            locate_weights(card(nobody, silent, gone), policy)
        assert time.monotonic() - start < 3
    message = caught.value.message
    assert f"{nobody}: no connection" in message
    assert "was silent for 0.3 s" in message
    assert f"{gone}: HTTP 404" in message
    assert caught.value.hint
    assert "net.pth" in caught.value.hint
    assert len(server.asked) == 2


def test_ctrl_c_keeps_the_part(server: Server, policy: WeightsPolicy) -> None:
    def interrupt(here: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        locate_weights(card(server.serve("/net.pth")), replace(policy, progress=interrupt))
    assert (policy.cache_dir / "net.pth.part").stat().st_size > 0
    assert not (policy.cache_dir / "net.pth").exists()


def test_two_at_once_fetch_once(server: Server, policy: WeightsPolicy, said: list[str]) -> None:
    busy, go_on = threading.Event(), threading.Event()

    def hold(here: int, total: int | None) -> None:
        busy.set()
        go_on.wait(5)

    network = card(server.serve("/net.pth"))
    slow = replace(policy, progress=hold)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda p=p: found.append(locate_weights(network, p).path))
        for p in (slow, policy)
    ]
    threads[0].start()
    assert busy.wait(5)
    threads[1].start()
    deadline = time.monotonic() + 5
    while not any("waiting" in line for line in said) and time.monotonic() < deadline:
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join(5)
    assert found == [policy.cache_dir / "net.pth"] * 2
    assert len(server.asked) == 1


def test_full_disk_is_a_plain_error(
    server: Server, policy: WeightsPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aigve_cli.weights.locate.download", full)
    with pytest.raises(WeightsError, match="No space left") as caught:
        locate_weights(card(server.serve("/net.pth")), policy)
    assert "AIGVE_CACHE_DIR" in str(caught.value.hint)


def test_progress_counts_to_the_end(server: Server, policy: WeightsPolicy, tmp_path: Path) -> None:
    lines: list[str] = []
    seen: list[tuple[int, int | None]] = []
    download(
        entry(server.serve("/net.pth")),
        tmp_path / "net.pth",
        announce=lines.append,
        progress=lambda here, total: seen.append((here, total)),
        timeouts=policy.timeouts,
    )
    assert seen[-1] == (len(PAYLOAD), len(PAYLOAD))
    lines.clear()
    hook = announced_progress(lines.append, "net.pth", every_seconds=0.0)
    hook(1_000_000, 2_000_000)
    hook(1_000_000, None)
    assert lines == ["  net.pth: 1 of 2 MB", "  net.pth: 1 MB"]
