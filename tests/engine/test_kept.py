"""Networks that stay loaded between runs of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aigve_cli import evaluate
from aigve_cli.engine import passes
from aigve_cli.engine.kept import KeptKey, KeptNetworks
from aigve_cli.engine.memory import Place
from aigve_cli.engine.plan import Producer


def key(
    name: str, *, sha256: str = "a", device: str = "cpu", place: Place | None = None
) -> KeptKey:
    return KeptKey(Producer(name), sha256, device, place)


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
    assert kept.bytes_of({key("b").kind}) == 0


def test_one_that_is_too_large_is_given_and_not_kept() -> None:
    kept = KeptNetworks(most_bytes=8)
    kept.get(key("small"), lambda: network(1))
    assert kept.get(key("a"), lambda: network(100)) is not None
    assert kept.bytes == 4


def test_other_weights_and_another_device_are_other_networks() -> None:
    kept = KeptNetworks(10**6)
    one = kept.get(key("a"), lambda: network(1))
    assert kept.get(key("a", sha256="b"), lambda: network(1)) is not one
    assert kept.get(key("a", device="cuda"), lambda: network(1)) is not one


def test_room_is_made_for_what_is_of_use() -> None:
    """Not for the same model in other numbers, on another device or of another file."""
    kept = KeptNetworks(10**6)
    half, whole = Place("bfloat16", 2), Place("float32", 4)
    wanted = key("a", place=half)
    for one in (
        wanted,
        key("a", place=whole),
        key("a", place=half, device="cuda"),
        key("a", place=half, sha256="b"),
        key("b"),
    ):
        kept.get(one, lambda: network(4))
    assert kept.bytes == 5 * 16
    kept.make_room({wanted.kind})
    assert kept.bytes == kept.bytes_of({wanted.kind}) == 16
    # What was free then does not make it another one.
    assert wanted.kind == key("a", place=Place("bfloat16", 2, main_bytes=7)).kind


def test_a_model_in_parts_is_not_kept() -> None:
    kept = KeptNetworks(10**6)
    kept.get(key("a", place=Place("bfloat16", 2, gpu_bytes=1)), lambda: network(4))
    assert kept.bytes == 0
