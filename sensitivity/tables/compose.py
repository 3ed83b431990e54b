r"""Tables made of other tables: importance × error, weighted blends, ranks.

Nothing here looks at a model: what has been measured once is recombined as often as one likes. A null, which marks a
format that a layer cannot have, stays one in whatever is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from allocator import CostTable, Fault, InvalidInputError
from allocator.contract.errors import pointer, unknown
from allocator.knapsack.problem import FloatArray


def scaled(
    importance: Sequence[float],
    error: CostTable,
    *,
    importance_stderr: Sequence[float] | None = None,
    meaning: str = "",
) -> CostTable:
    r"""Weight every layer's errors with its importance.

    .. math:: c_{l,f} = a_l \, e_{l,f}, \qquad
              \sigma^2 = a_l^2 \sigma_e^2 + e_{l,f}^2 \sigma_a^2 + \sigma_a^2 \sigma_e^2

    Args:
        importance: (L,), higher where an error hurts more: mean traces, relevances, block importances.
        error: (L, F), such as ``weight_error`` or ``output_mse``; lower is better.
        importance_stderr: (L,) standard errors of the importances; independent of those of the errors.
        meaning: What the importance is; goes before that of the error.

    Returns:
        (L, F), with standard errors where either factor has them.

    Raises:
        InvalidInputError: The importances are not one finite number per layer, or the error is one where higher is
            better.

    Example:
        >>> error = CostTable(values=((4.0, 1.0), (4.0, None)), meaning="squared error")
        >>> scaled([0.5, 2.0], error, meaning="relevance").values
        ((2.0, 0.5), (8.0, None))
    """
    values, stderr = _arrays(error)
    weights = _vector(importance, len(values), "/importance")[:, None]
    if error.better == "higher":
        raise InvalidInputError(
            Fault("/error", "expected a table where lower is better, got one to maximise")
        )
    spread = None
    if importance_stderr is not None or stderr is not None:
        noise = np.zeros_like(weights)
        if importance_stderr is not None:
            noise = _vector(importance_stderr, len(values), "/importance_stderr")[:, None]
        own = np.zeros_like(values) if stderr is None else stderr
        spread = np.sqrt((weights * own) ** 2 + (values * noise) ** 2 + (noise * own) ** 2)
    return _table(weights * values, spread, " × ".join(filter(None, (meaning, error.meaning))))


def blend(
    tables: Mapping[str, CostTable], weights: Mapping[str, float], *, normalise: bool = True
) -> CostTable:
    r"""Add tables up with weights.

    .. math:: c_{l,f} = \sum_k w_k \, \frac{c^{(k)}_{l,f}}{\text{mean} \, |c^{(k)}|}

    Args:
        tables: Name → (L, F), such as ``profile.costs``.
        weights: Name → weight, of the tables to add up.
        normalise: Divide each table by the mean absolute value of its entries, so that the weights compare tables
            of different units; False adds the raw numbers.

    Returns:
        (L, F); a null in any of them is one. Standard errors take the tables as independent, and are there where
        every table has them.

    Raises:
        InvalidInputError: A name is unknown, no weight or one that is not finite is given, the shapes differ, or
            tables to minimise and to maximise are mixed.

    Example:
        >>> tables = {"kl": CostTable(values=((3.0, 1.0),)), "mse": CostTable(values=((30.0, 10.0),))}
        >>> blend(tables, {"kl": 0.5, "mse": 0.5}).values
        ((1.5, 0.5),)
    """
    if not weights:
        raise InvalidInputError(Fault("/weights", "expected at least one table and its weight, got none"))
    for name, weight in weights.items():
        if name not in tables:
            raise InvalidInputError(Fault("/weights", unknown(name, tables, "table")))
        if not np.isfinite(weight):
            raise InvalidInputError(
                Fault(pointer(("weights", name)), f"expected a finite number, got {weight}")
            )
    if len({tables[name].better for name in weights}) > 1:
        detail = "tables where lower is better and tables where higher is better cannot be added up"
        raise InvalidInputError(Fault("/weights", detail))
    arrays = {name: _arrays(tables[name]) for name in weights}
    if len({values.shape for values, _ in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {values.shape}" for name, (values, _) in arrays.items())
        raise InvalidInputError(Fault("/tables", f"expected tables of one shape, got {shapes}"))
    shares = {
        name: weight / (_mean_size(arrays[name][0]) if normalise else 1.0) for name, weight in weights.items()
    }
    total = sum((shares[name] * values for name, (values, _) in arrays.items()), start=np.float64(0.0))
    errors = [(shares[name] * stderr) ** 2 for name, (_, stderr) in arrays.items() if stderr is not None]
    spread = np.sqrt(np.sum(errors, axis=0)) if len(errors) == len(arrays) else None
    parts = " + ".join(f"{weight:g} × {name}" for name, weight in weights.items())
    made = _table(np.asarray(total), spread, parts + (", each divided by its mean size" if normalise else ""))
    return made.model_copy(update={"better": tables[next(iter(weights))].better})


def ranks(table: CostTable) -> CostTable:
    """Replace the entries of a table by their ranks.

    Args:
        table: (L, F).

    Returns:
        (L, F) ranks from 1 for the best entry; equal entries share the mean of theirs.

    Example:
        >>> ranks(CostTable(values=((0.5, 0.1), (None, 0.1)))).values
        ((3.0, 1.5), (None, 1.5))
    """
    values, _ = _arrays(table)
    signed = -values if table.better == "higher" else values
    made = np.full(values.shape, np.nan)
    made[~np.isnan(values)] = rankdata(signed[~np.isnan(values)])
    return _table(made, None, f"rank of: {table.meaning}" if table.meaning else "rank")


def _mean_size(values: FloatArray) -> float:
    present = np.abs(values[~np.isnan(values)])
    return float(present.mean()) if present.size and present.any() else 1.0


def _vector(given: Sequence[float], count: int, where: str) -> FloatArray:
    vector = np.asarray(given, dtype=float)
    if vector.shape != (count,) or not np.isfinite(vector).all():
        detail = f"expected {count} finite numbers, one per layer, got shape {vector.shape}"
        raise InvalidInputError(Fault(where, detail))
    return vector


def _arrays(table: CostTable) -> tuple[FloatArray, FloatArray | None]:
    stderr = None if table.stderr is None else np.array(table.stderr, dtype=float)
    return np.array(table.values, dtype=float), stderr


def _table(values: FloatArray, stderr: FloatArray | None, meaning: str) -> CostTable:
    # Where the value is null, so is its error.
    return CostTable(
        values=_rows(values),
        stderr=None if stderr is None else _rows(np.where(np.isnan(values), np.nan, stderr)),
        meaning=meaning,
    )


def _rows(values: FloatArray) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(None if np.isnan(item) else float(item) for item in row) for row in values)
