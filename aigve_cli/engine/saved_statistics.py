"""Statistics of a reference set in a file: ``--save-stats`` writes it, ``--reference-stats`` reads.

An ``.npz`` with arrays ``METRIC.ARRAY`` and a JSON text ``aigve`` that says how each was made. With
the statistics of a single Fréchet distance, ``mu`` and ``sigma`` stand there too under their plain
names, which pytorch-fid and its relatives read; a file of theirs, with nothing else, is read here.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigve_cli import __version__
from aigve_cli.contract import VideoFacts
from aigve_cli.dataset.textfiles import replacing
from aigve_cli.engine.plan import (
    PlannedMetric,
    request_frames,
    request_key,
    request_producers,
    request_sampling,
)
from aigve_cli.errors import SetupError, UsageError
from aigve_cli.lazy import np
from aigve_cli.registry import Settings
from aigve_cli.statistics.gaussian import moments_to_gaussian
from aigve_cli.video.views import view_to_text
from aigve_cli.weights import network_card

if TYPE_CHECKING:
    from aigve_cli.contract import Floats, Sampling

ABOUT = "aigve"
FORMAT = 1
MOMENTS = ("mu", "sigma")


@dataclass(frozen=True)
class SavedStatistics:
    """The content of a statistics file.

    Attributes:
        path: The file.
        sha256: Of its bytes.
        about: How the statistics of each metric were made; empty for another tool's file.
        arrays: By metric; under "" the plain ``mu`` and ``sigma`` of another tool's file.
    """

    path: Path
    sha256: str
    about: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, Mapping[str, Floats]]

    def of(self, planned: PlannedMetric) -> Mapping[str, Floats] | None:
        """What a metric can be compared with, or None."""
        if not planned.metric.saves_statistics():
            return None
        if planned.name in self.arrays:
            return self.arrays[planned.name]
        plain = self.arrays.get("")
        if plain and planned.metric.reads_moments and plain["mu"].size == _width(planned):
            return plain
        return None


def read_statistics_file(path: Path) -> SavedStatistics:
    """Read a file of ours, or one with ``mu`` and ``sigma``.

    Raises:
        UsageError: It cannot be read, or holds something else.
    """
    hint = "Files are written by --save-stats, or by pytorch-fid (an .npz with mu and sigma)."
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop(ABOUT))) if ABOUT in arrays else None
        if about is not None and not isinstance(about, dict):
            raise ValueError(f"'{ABOUT}' in it is no object")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"--reference-stats {path} cannot be read: {reason}.", hint=hint
        ) from error
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        # numpy's own words advise to load a pickle that one trusts.
        raise UsageError(
            f"--reference-stats {path} is no file of statistics.", hint=hint
        ) from error
    if about is not None:
        if about.get("format") != FORMAT:
            raise UsageError(
                f"--reference-stats {path} has format {about.get('format')}; this version of "
                f"aigve reads {FORMAT}.",
                hint="Save the statistics again.",
            )
        return SavedStatistics(path, digest, about.get("metrics", {}), _by_metric(arrays))
    if not set(MOMENTS) <= arrays.keys():
        names = ", ".join(sorted(arrays)) or "nothing"
        raise UsageError(f"--reference-stats {path} holds {names}, not mu and sigma.", hint=hint)
    return SavedStatistics(path, digest, {}, {"": {name: arrays[name] for name in MOMENTS}})


def check_target(path: Path) -> None:
    """Refuse a file that statistics should not replace.

    Raises:
        UsageError: There is something else than a file of statistics, or no folder to write to.
    """
    if not path.parent.is_dir():
        raise UsageError(f"--save-stats {path}: there is no folder {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--save-stats {path}: {path.parent} cannot be written to.")
    if not os.path.lexists(path):
        return
    try:
        ours = path.is_file() and not path.is_symlink() and bool(read_statistics_file(path).about)
    except UsageError:
        ours = False
    if not ours:
        raise UsageError(
            f"--save-stats {path}: that is there, and is no file of --save-stats.",
            hint="Choose another name, or move it away.",
        )


def write_statistics_file(
    path: Path,
    metrics: Mapping[str, tuple[PlannedMetric, Mapping[str, Floats]]],
    *,
    weights: Mapping[str, str],
    precision: str,
) -> None:
    """Write the statistics of some metrics, whole or not at all.

    Raises:
        SetupError: The file cannot be written.
    """
    about = {name: _facts(planned, weights, precision) for name, (planned, _) in metrics.items()}
    arrays = {
        f"{name}.{array}": values
        for name, (_, statistics) in metrics.items()
        for array, values in statistics.items()
    }
    moments = [name for name, (planned, _) in metrics.items() if planned.metric.reads_moments]
    if len(moments) == 1:
        arrays |= {name: arrays[f"{moments[0]}.{name}"] for name in MOMENTS}
    text = json.dumps({"format": FORMAT, "version": __version__, "metrics": about})
    try:
        with replacing(path) as draft, draft.open("wb") as file:
            np.savez(file, allow_pickle=False, **{ABOUT: np.array(text), **arrays})
    except OSError as error:
        raise SetupError(
            f"Cannot write {path}: {error.strerror}.",
            hint="The journal is kept: mend that and run the same command again.",
        ) from error


def check_statistics(
    saved: SavedStatistics,
    planned: PlannedMetric,
    *,
    weights: Mapping[str, str],
    precision: str,
    settings: Settings,
) -> list[str]:
    """Refuse statistics that were made in another way than this metric looks at videos now.

    Returns:
        What a reader of the number should know: how much of the videos they were made of.

    Raises:
        UsageError: Another convention, network, checkpoint or precision; or a file that does not
            say its convention, while the user has not said it either.
    """
    _check_moments(saved, planned)
    if planned.name not in saved.about:
        named = any(
            "convention" in settings.get(name, {}) for name in (planned.requested, planned.name)
        )
        if not named:
            conventions = _choices(planned, "convention")
            say = f"Say it: --set {planned.name}.convention=C, C one of {', '.join(conventions)}."
            other = f"{planned.name} reads files of --save-stats."
            raise UsageError(
                f"{saved.path} holds mu and sigma and does not say how they were made.",
                hint=say if conventions else other,
            )
        return [f"{saved.path} does not say how its statistics were made."]
    then, now = saved.about[planned.name], _facts(planned, weights, precision)
    differing = [
        f"{what} was {then.get(what)}, is {now[what]}"
        for what in ("version", "precision", "view", "networks", "clips", "requests")
        if then.get(what) != now[what]
    ]
    if differing:
        raise UsageError(
            f"{saved.path} does not fit this run of {planned.name}: {differing[0]}.",
            hint="Compute with the same settings and weights, or save the statistics again.",
        )
    return [
        f"{saved.path} was made of '{then['sampling'][name]}'; {planned.name} now takes '{text}'."
        for name, text in now["sampling"].items()
        if then["sampling"][name] != text
    ]


def _choices(planned: PlannedMetric, option: str) -> list[str]:
    options = planned.metric.card.options
    return [str(choice) for known in options if known.name == option for choice in known.choices]


def _check_moments(saved: SavedStatistics, planned: PlannedMetric) -> None:
    arrays = saved.of(planned) or {}
    if not planned.metric.reads_moments:
        return
    try:
        gaussian = moments_to_gaussian(arrays["mu"], arrays["sigma"])
        width = _width(planned) or gaussian.dimensions
        if gaussian.dimensions != width:
            raise ValueError(f"a mean of {gaussian.dimensions} numbers instead of {width}")
        if planned.name not in saved.about:
            # Of another tool: float32 files may be a little below 0.
            values = np.linalg.eigvalsh(gaussian.covariance)
            if values[0] < -1e-4 * max(values[-1], 0.0):
                raise ValueError("its sigma is no covariance: it has negative eigenvalues")
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{saved.path} holds no statistics for {planned.name}: {error}.",
            hint="Save the statistics again.",
        ) from error


def _facts(planned: PlannedMetric, weights: Mapping[str, str], precision: str) -> dict[str, Any]:
    requests = planned.requests.items()
    return {
        "version": planned.metric.card.version,
        "options": dict(planned.options),
        "precision": precision,
        "view": {name: view_to_text(request_frames(r)[0].view) for name, r in requests},
        "sampling": {name: str(request_sampling(r)) for name, r in requests},
        "networks": {
            producer.checkpoint: weights[producer.checkpoint]
            for _, request in requests
            for producer in sorted(request_producers(request))
            if producer.checkpoint in weights
        },
        "clips": {name: _unit_to_text(request_sampling(r)) for name, r in requests},
        # Everything that decides a row: output, variant, weights, view and length of a unit.
        "requests": {name: request_key(r, weights) for name, r in requests},
    }


def _unit_to_text(sampling: Sampling) -> str:
    """What must agree of the clips of two sets: the frames of one, not how many there are."""
    unit = sampling.units(VideoFacts(0, 0, 25.0, 1_000_000))[0].tolist()
    stride = unit[1] - unit[0] if len(unit) > 1 else 1
    return f"{len(unit)}-frame, one frame in {stride}, from frame {unit[0]}"


def _width(planned: PlannedMetric) -> int:
    (request,) = planned.requests.values()
    return network_card(request.producer).outputs[request.output_name]


def _by_metric(arrays: Mapping[str, Floats]) -> dict[str, dict[str, Floats]]:
    by_metric: dict[str, dict[str, Floats]] = {}
    for name, values in arrays.items():
        metric, dot, array = name.rpartition(".")
        if dot:
            by_metric.setdefault(metric, {})[array] = values
    return by_metric
