"""Networks that stay loaded between runs of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aigve_cli import evaluate
from aigve_cli.engine import passes
from aigve_cli.engine.kept import KeptKey, KeptNetworks
from aigve_cli.engine.plan import Producer


def key(name: str, *, sha256: str = "a", device: str = "cpu") -> KeptKey:
    return KeptKey(Producer(name), sha256, device, None)


def network(numbers: int) -> torch.nn.Module:
    return torch.nn.Linear(numbers, 1, bias=False)


def test_a_second_run_loads_nothing_and_gives_the_same_bits(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    real = passes.load_network

    def counting(card: Any, *arguments: Any, **options: Any) -> Any:
        loaded.append(card.name)
        return real(card, *arguments, **options)

    monkeypatch.setattr(passes, "load_network", counting)
    kept = KeptNetworks(10**9)

    def run(name: str, **more: Any) -> list[float | None]:
        results = evaluate(
            pairs, metrics="fid-lite0,is-lite0", device="cpu", output_dir=tmp_path / name, **more
        )
        return [record["value"] for record in results.records]

    first = run("first", kept=kept)
    assert loaded == ["efficientnet-lite0"]
    assert run("second", kept=kept) == first
    assert loaded == ["efficientnet-lite0"]
    assert run("alone") == first
    assert len(loaded) == 2
    # Another precision is another arithmetic of the same weights.
    assert run("bf16", kept=kept, precision="bf16") != first
    assert len(loaded) == 2


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept = KeptNetworks(most_bytes=8 * 4)
    first = kept.get(key("a"), lambda: network(4))
    kept.get(key("b"), lambda: network(4))
    assert kept.get(key("a"), lambda: network(4)) is first
    kept.get(key("c"), lambda: network(4))
    assert kept.bytes == 32
    assert kept.get(key("a"), lambda: network(4)) is first
    assert kept.bytes_of({key("b").producer.checkpoint}) == 0


def test_one_that_is_too_large_is_given_and_not_kept() -> None:
    kept = KeptNetworks(most_bytes=8)
    assert kept.get(key("a"), lambda: network(100)) is not None
    assert kept.bytes == 0


def test_other_weights_and_another_device_are_other_networks() -> None:
    kept = KeptNetworks(10**6)
    one = kept.get(key("a"), lambda: network(1))
    assert kept.get(key("a", sha256="b"), lambda: network(1)) is not one
    assert kept.get(key("a", device="cuda"), lambda: network(1)) is not one


def test_room_is_made_for_some() -> None:
    kept = KeptNetworks(10**6)
    for name in "abc":
        kept.get(key(name), lambda: network(4))
    kept.make_room({key("b").producer.checkpoint})
    assert kept.bytes == kept.bytes_of({key("b").producer.checkpoint}) == 16
