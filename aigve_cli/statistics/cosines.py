"""Rows of numbers as directions, and the cosines between them: float64, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigve_cli.lazy import np

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats


def rows_to_directions(rows: Floats) -> NDArray[numpy.float64]:
    """Rows [N, D] as float64 of length 1; what has no direction stays 0."""
    rows64 = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(rows64, axis=1, keepdims=True)
    return rows64 / np.where(lengths > 0, lengths, 1)


def directions_to_cosines(
    first: NDArray[numpy.float64], second: NDArray[numpy.float64]
) -> NDArray[numpy.float64]:
    """Row by row, or of each row with the only one of the other side: float64 [N].

    Without the last bit by which a sum may be more than 1.
    """
    result: NDArray[numpy.float64] = (first * second).sum(axis=1).clip(-1, 1)
    return result
