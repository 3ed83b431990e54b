"""Model and data in, Profile out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from torch import nn

from allocator import CostTable, Fault, InvalidInputError, Layer, Outside, Profile, Provenance, ResourceTable
from allocator.knapsack.tables import WEIGHT_BYTES
from quantize import NEAREST, Rounding
from quantize.checkpoints.outside import with_outside
from sensitivity.estimators import ESTIMATORS
from sensitivity.models.identity import identity_of_module
from sensitivity.models.whole import require_whole
from sensitivity.profiling.assembly import columns_of, estimated, layers_of, rules_of, spent
from sensitivity.profiling.memory_estimate import require_room
from sensitivity.profiling.runtime_rows import require_loadable, runtime_rows
from sensitivity.resources import RESOURCES, Resource
from sensitivity.rows import ExpertRef, Row, find_rows
from sensitivity.rows.outside import outside_of
from sensitivity.study.calibration import Batch, LossFunction, check_losses, collect, digest
from sensitivity.study.study import Estimator, Progress, Study, silent
from sensitivity.study.tasks import Engine, begin, serial
from sensitivity.tables.negative import negative_notes
from sensitivity.units.own_formats import stored_otherwise
from sensitivity.units.shape_rules import ShapeRule
from sensitivity.units.unit_rules import UnitRule

#: Packages whose versions can change the numbers.
_VERSIONED = ("bitalloc", "torch", "numpy")


def profile_model(
    model: nn.Module,
    batches: Iterable[Batch],
    loss_fn: LossFunction,
    formats: Sequence[str],
    estimators: Sequence[str] | Mapping[str, Estimator],
    *,
    name: str = "",
    exclude: Sequence[str] = (),
    rows: Sequence[str] = ("weight",),
    resources: Sequence[str] | Mapping[str, Resource] = (WEIGHT_BYTES,),
    units: str | UnitRule = "none",
    shape_rules: Sequence[ShapeRule] = (),
    runtime: str | None = None,
    rounding: Rounding = NEAREST,
    seed: int = 0,
    progress: Progress = silent,
    engine: Engine = serial,
    checkpoint: Path | None = None,
) -> Profile:
    """Measure what each format would cost and spend in each layer.

    The model is used in evaluation mode and is bit-identical afterwards.

    Args:
        model: Any module made of Linear, Conv and Embedding layers.
        batches: Calibration data, in whatever form ``loss_fn`` takes.
        loss_fn: (model, batch) → (B,) losses, one per sample.
        formats: StorageFormat names such as ``int4-g64`` and ``fp16``; the columns.
        estimators: Names, or table name → estimator with its options bound by :func:`functools.partial`.
        exclude: Names or globs of rows to leave in full precision.
        rows: What takes a format: ``weight``, ``expert`` (stacks of transformers), ``activation``, ``kv_cache``.
        resources: Names, or table name → resource with its options bound by :func:`functools.partial`.
        units: Which rows share a format: ``none``, ``vllm``, ``shared_input``, ``tied_input``, or a function from a
            study to row → unit.
        shape_rules: Formats that do not fit; they become nulls with a reason in the provenance.
        runtime: Who is to load the plan, a name in ``quantize.runtimes.RUNTIMES``: what it does not load is null
            with a reason, kinds of layers that it never quantizes get no row, and the provenance names it. With
            ``units="vllm"`` it is vLLM when absent.
        rounding: How weights are rounded: the rounding that will be shipped. What it needs to know of the data comes
            from ``batches``; see :func:`sensitivity.study.input_moments.input_moments`.
        engine: Computes the pieces that estimators cut their work into: here, elsewhere, or remembered.
        checkpoint: Folder that the model was loaded from: what lies outside the plan is then counted as its files
            store it, else as it is in memory.

    Returns:
        A profile with one cost table per estimator and one resource table per resource; what the model stores beside
        the rows is listed in ``outside``, and its bytes are the constant of ``weight_bytes``.

    Raises:
        InvalidInputError: The model, the data, a format or an estimator cannot be used, or needs more memory than there
            is; said before any table is begun.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> data = [(torch.randn(4, 8), torch.tensor([0, 1, 0, 1]))]
        >>> def loss(model, batch):
        ...     return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
        >>> profile = profile_model(model, data, loss, ["int2", "int8"], ["fisher"])
        >>> profile.resources["weight_bytes"].values
        ((32.0, 80.0), (8.0, 20.0))
    """
    columns = columns_of(formats)
    spending = RESOURCES.chosen(resources)
    chosen = ESTIMATORS.chosen(estimators)
    _require_apart(chosen, spending)
    require_whole(model)
    layers, others = find_rows(model, rows, exclude)
    require_loadable(runtime, checkpoint)
    made_for = runtime_rows(layers, others, runtime, units)
    _require_roundable(others, rounding)
    study = Study(
        model,
        collect(batches),
        loss_fn,
        made_for.layers,
        columns,
        seed,
        progress,
        engine,
        others=others,
        rounding=rounding,
    )
    with _evaluating(model):
        found = _measured(study, chosen, spending, units, (*made_for.rules, *shape_rules))
    notes = {**found.notes, **made_for.notes, **_rounded_with(rounding)}
    outside = outside_of(model, study.rows, checkpoint, made_for.kept)
    return _profile(study, found, notes, name, outside)


@dataclass(frozen=True)
class _Measured:
    layers: tuple[Layer, ...]
    costs: Mapping[str, CostTable]
    resources: Mapping[str, ResourceTable]
    notes: Mapping[str, str]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _measured(
    study: Study,
    estimators: Mapping[str, Estimator],
    resources: Mapping[str, Resource],
    units: str | UnitRule,
    shape_rules: Sequence[ShapeRule],
) -> _Measured:
    check_losses(study.model, study.batches, study.loss_fn)
    begin(study)
    rules = rules_of(study, units, shape_rules)
    own = {fmt.name for fmt in study.formats if fmt.codec is not None}
    study = replace(study, refused=frozenset(pair for pair in rules.refused if pair[1] in own))
    tables, notes = spent(study, resources, rules)
    notes |= stored_otherwise(study)
    layers = layers_of(study, rules)
    require_room(study, estimators)
    costs = estimated(study, estimators, rules)
    return _Measured(layers, costs, tables, notes | negative_notes(costs, [layer.name for layer in layers]))


def _profile(
    study: Study, found: _Measured, notes: Mapping[str, str], name: str, outside: tuple[Outside, ...]
) -> Profile:
    return Profile(
        model=name or type(study.model).__name__,
        formats={item.name: item.describe() for item in study.formats},
        layers=found.layers,
        costs=found.costs,
        resources=with_outside(found.resources, outside),
        outside=outside,
        identity=identity_of_module(study.model, [layer.weight for layer in study.layers]),
        provenance=Provenance(
            data_sha256=digest(study.batches),
            seed=study.seed,
            versions={item: metadata.version(item) for item in _VERSIONED},
            notes=dict(notes),
        ),
    )


def _rounded_with(rounding: Rounding) -> dict[str, str]:
    return {} if rounding == NEAREST else {"/costs": f"weights rounded with {rounding}"}


def _require_roundable(others: Sequence[Row], rounding: Rounding) -> None:
    stacked = [row.name for row in others if isinstance(row, ExpertRef)]
    if stacked and rounding != NEAREST:
        detail = (
            f"experts in stacks, such as {stacked[0]!r}, are rounded to nearest only, got {rounding.method!r}; profile "
            "inside split_experts(model), which makes them layers"
        )
        raise InvalidInputError(Fault("/rounding", detail))


def _require_apart(estimators: Iterable[str], spending: Iterable[str]) -> None:
    both = sorted(set(estimators) & set(spending))
    if both:
        detail = f"{both[0]!r} is the name of the resource; give this cost table another"
        raise InvalidInputError(Fault("/estimators", detail))
