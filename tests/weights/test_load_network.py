"""Strict loading: a checkpoint is all of the network's, or it is an error that lists the keys."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from weights_kit import card

from aigve_cli.engine.networks import load_function, load_network
from aigve_cli.errors import WeightsError
from aigve_cli.weights import Located


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A network's module of 2 keys, under the name that the test card has."""
    module = types.ModuleType("aigve_models.net")
    module.build = lambda variant="": nn.Sequential(nn.Linear(3, 4))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "aigve_models.net", module)
    return module


def located(path: Path) -> Located:
    return Located(path, "0" * 64, "standard", False, "t", "MIT")


def good() -> dict[str, torch.Tensor]:
    return {"0.weight": torch.ones(4, 3), "0.bias": torch.zeros(4)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_loads_for_evaluation(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(good(), path)
    network = load_network(card(), located(path), device="cpu")
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert network(torch.ones(1, 3)).tolist() == [[3.0] * 4]


def test_misfits_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(
        {"0.weight": torch.ones(4, 5)} | {f"x{i:02}": torch.ones(1) for i in range(12)}, path
    )
    with pytest.raises(WeightsError) as caught:
        load_network(card(), located(path), device="cpu")
    message = caught.value.message
    assert "1 missing: 0.bias" in message
    assert "12 unknown: x00, x01" in message
    assert "x09, … and 2 more" in message
    assert "x10" not in message
    assert "0.weight (4, 5) instead of (4, 3)" in message


def test_a_key_without_a_tensor_is_a_misfit(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(good() | {"0.bias": 3}, path)
    with pytest.raises(WeightsError, match=r"0\.bias int instead of"):
        load_network(card(), located(path), device="cpu")


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("ran",))


@pytest.mark.parametrize("content", ["text", "truncated", "list", "code", "bad safetensors"])
def test_what_is_no_checkpoint_says_so(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("net.safetensors" if content == "bad safetensors" else "net.pth")
    if content == "list":
        torch.save([torch.ones(1)], path)
    elif content == "code":
        torch.save(Evil(), path)
    elif content == "truncated":
        torch.save(good(), path)
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(WeightsError) as caught:
        load_network(card(), located(path), device="cpu")
    assert str(path) in caught.value.message
    assert capsys.readouterr().out == ""


def test_a_module_that_does_not_find_its_keys_is_explained(
    tmp_path: Path, module: types.ModuleType
) -> None:
    module.checkpoint_to_state = lambda checkpoint: checkpoint["model"]  # type: ignore[attr-defined]
    path = tmp_path / "net.pth"
    torch.save(good(), path)
    with pytest.raises(WeightsError, match="not laid out like"):
        load_network(card(), located(path), device="cpu")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
    ],
)
def test_training_checkpoints_are_unwrapped(
    tmp_path: Path, module: types.ModuleType, wrap: Callable[..., Any]
) -> None:
    path = tmp_path / "net.pth"
    torch.save(wrap(good()), path)
    load_network(card(), located(path), device="cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: tensor * float("nan"), "with numbers that are not finite"),
        (lambda tensor: tensor.to(torch.int8), "of whole numbers instead of fractions"),
    ],
)
def test_tensors_that_no_training_leaves_are_refused(
    tmp_path: Path, module: types.ModuleType, change: Callable[..., Any], words: str
) -> None:
    path = tmp_path / "net.pth"
    torch.save({key: change(value) for key, value in good().items()}, path)
    with pytest.raises(WeightsError, match=words) as caught:
        load_network(card(), located(path), device="cpu")
    assert str(path) in caught.value.message


def test_function_is_built(module: types.ModuleType) -> None:
    module.build = lambda variant="": lambda x: (variant, x)  # type: ignore[attr-defined]
    assert load_function(card(), "v")(1) == ("v", 1)
