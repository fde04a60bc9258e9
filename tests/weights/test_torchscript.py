"""OpenAI's archives: their tensors are read, their programs are not run."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from aigve_cli.engine.torchscript import is_torchscript, torchscript_tensors


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("steps", torch.arange(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Inner()
        self.layers = nn.ModuleList([Inner(), Inner()])
        self.scale = nn.Parameter(torch.ones(()))
        self.layers[1].linear.weight = self.layers[0].linear.weight  # tied

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return x * self.scale


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_tensors_are_those_of_its_state_dict(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "archive.pt"
    scripted = torch.jit.script(Outer().to(dtype))
    torch.jit.save(scripted, path)
    tensors = torchscript_tensors(path)
    expected = scripted.state_dict()
    assert is_torchscript(path)
    assert tensors.keys() == expected.keys()
    for key, tensor in expected.items():
        assert tensors[key].dtype == tensor.dtype
        assert torch.equal(tensors[key], tensor)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def archive_of(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/constants.pkl", b"")
    return path


def test_what_wants_to_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = archive_of(tmp_path / "evil.pt", pickle.dumps(Evil()))
    with pytest.raises(pickle.UnpicklingError, match="print"):
        torchscript_tensors(path)
    assert "must not run" not in capsys.readouterr().out


def test_an_archive_without_modules_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
    with pytest.raises(pickle.UnpicklingError, match="no modules"):
        torchscript_tensors(path)


def test_a_checkpoint_of_torch_is_none(tmp_path: Path) -> None:
    torch.save(Inner().state_dict(), tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("no zip")
    assert not is_torchscript(tmp_path / "state.pt")
    assert not is_torchscript(tmp_path / "text.pt")
