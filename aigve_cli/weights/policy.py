"""What a run may take weights from, and what comes of looking for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from aigve_cli.errors import MissingWeightsError
from aigve_cli.weights.cards import NetworkCard, WeightsEntry
from aigve_cli.weights.download import Announce, ProgressHook, Timeouts

WeightsMode = Literal["auto", "standard", "embedded"]
Origin = Literal["standard", "embedded", "custom"]


def _silent(_text: str) -> None:
    pass


@dataclass(frozen=True)
class WeightsPolicy:
    """Where a run may take weights from. ``weights_policy`` fills it from the environment.

    ``auto`` and ``standard`` look for the same files; which metric stands in for one whose weights
    are missing is the run's decision.
    """

    cache_dir: Path
    mode: WeightsMode = "auto"
    weights_dir: Path | None = None
    offline: bool = False
    custom: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    """``--model NETWORK=PATH``: a file, or a folder that holds it under its published name. Where
    the weights are a folder, that folder."""
    announce: Announce = _silent
    progress: ProgressHook | None = None
    """None: a line through ``announce`` every ten seconds."""
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True)
class Located:
    """A checkpoint that is here and agrees with all that its card knows."""

    path: Path
    """A file, or the folder of a model as transformers saves one."""
    sha256: str
    """Computed, all 64 digits. Of a folder one for all files that decide its numbers."""
    origin: Origin
    verified: bool
    """True if the card knows the hash, or its beginning, and this is it."""
    tag: str
    licence: str
    published: str = ""
    """``owner/name@commit`` of a folder that came from the Hugging Face Hub."""
    processor: Path | None = None
    """The folder with tokenizer and image processor, where the weights have one of their own."""
    processor_published: str = ""
    """``owner/name@commit`` of that folder, if it came from the Hub."""


def none_but_embedded(card: NetworkCard, entry: WeightsEntry) -> MissingWeightsError:
    """The error for weights that ``--weights embedded`` excludes."""
    return MissingWeightsError(
        f"The weights of {card.name} ({entry.tag}) do not install with a package, "
        "and --weights embedded allows no others.",
        short="--weights embedded.",
        hint="Use --weights auto or standard.",
    )


def weights_policy(
    *,
    mode: WeightsMode = "auto",
    weights_dir: Path | None = None,
    cache_dir: Path | None = None,
    offline: bool = False,
    custom: Mapping[str, Path] | None = None,
    announce: Announce = _silent,
    progress: ProgressHook | None = None,
    environ: Mapping[str, str] | None = None,
) -> WeightsPolicy:
    """A policy; what is not given comes from the environment.

    ``AIGVE_WEIGHTS_DIR``, ``AIGVE_CACHE_DIR`` (else ``$XDG_CACHE_HOME/aigve``, else
    ``~/.cache/aigve``), and ``AIGVE_OFFLINE`` or ``HF_HUB_OFFLINE``.
    """
    env = os.environ if environ is None else environ
    if weights_dir is None and env.get("AIGVE_WEIGHTS_DIR"):
        weights_dir = Path(env["AIGVE_WEIGHTS_DIR"]).expanduser()
    if cache_dir is None and env.get("AIGVE_CACHE_DIR"):
        cache_dir = Path(env["AIGVE_CACHE_DIR"]).expanduser()
    if cache_dir is None:
        cache_dir = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aigve"
    return WeightsPolicy(
        cache_dir=cache_dir / "weights",
        mode=mode,
        # Absolute: a program may change its folder between planning and loading.
        weights_dir=weights_dir.absolute() if weights_dir else None,
        offline=offline or any(is_set(env, key) for key in ("AIGVE_OFFLINE", "HF_HUB_OFFLINE")),
        custom=MappingProxyType({name: path.absolute() for name, path in (custom or {}).items()}),
        announce=announce,
        progress=progress,
    )


def is_set(environ: Mapping[str, str], key: str) -> bool:
    """Whether a variable says yes: anything but nothing, 0, false, no and off."""
    return environ.get(key, "").strip().lower() not in ("", "0", "false", "no", "off")
