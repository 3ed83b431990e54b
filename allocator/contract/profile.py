"""The Profile: what each format would cost each layer, and what it would spend.

Everything upstream produces a Profile and everything downstream consumes one. Rows are layers (L of them), columns are
formats (F of them); every table is (L, F), and ``None`` marks a format that a layer cannot have.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from allocator.contract.errors import InvalidInputError, decoded, faults_of, unknown
from allocator.contract.frames import without_frames
from allocator.contract.identity import ModelIdentity
from allocator.contract.outside import Outside
from allocator.contract.schema import Count, Finite, Name, Size, Strict
from allocator.contract.sources import json_in

CostRow = tuple[Finite | None, ...]
SizeRow = tuple[Size | None, ...]

# What came to the contract later stays out of the JSON while it is absent: profiles keep their digests.
_OMITTED = Field(exclude_if=lambda value: value is None)


class Format(Strict):
    """One column: a way to store (and compute with) a layer.

    Attributes:
        weight_bits: Bits of one stored code; fractional formats exist (1.58, 2.5).
        group_size: Weights that share one scale; absent for formats without groups.
        activation_bits: Bits of the inputs the layer computes with.
    """

    weight_bits: Annotated[float, Field(strict=True, gt=0, le=64)]
    group_size: Annotated[int, Field(strict=True, gt=0)] | None = None
    activation_bits: Annotated[float, Field(strict=True, gt=0, le=64)] | None = None


class Layer(Strict):
    """One row: anything that takes a format.

    Attributes:
        name: Unique name, usually the module path.
        kind: What takes the format; only weights count for effective bits.
        parameters: Number of weights.
        macs: Multiply-accumulates of one sample.
        unit: Layers that name the same unit always share one format.
    """

    name: Name
    kind: Literal["weight", "activation", "kv_cache"] = "weight"
    parameters: Count | None = None
    macs: Count | None = None
    unit: Name | None = None


class CostTable(Strict):
    """What a choice costs the model.

    Attributes:
        values: (L, F); negative values are legal (noise, indefinite Hessians) and kept raw.
        stderr: Standard error of each value, same shape.
        better: Direction of improvement; a ``higher`` table (SQNR, SSIM) is maximised.
        meaning: What the number is, with its unit and normalisation.
        comparable: Which rows the table can compare: ``all``, or those of ``one_kind`` only (a query with other
            queries), because it does not know what the model makes of a layer's output; absent where nobody said.
        tolerable: Most that a plan may add up to and still be of use, as whoever filled the table states it.
    """

    values: tuple[CostRow, ...]
    stderr: tuple[SizeRow, ...] | None = None
    better: Literal["lower", "higher"] = "lower"
    meaning: str = ""
    comparable: Annotated[Literal["all", "one_kind"] | None, _OMITTED] = None
    tolerable: Annotated[Finite | None, _OMITTED] = None

    @cached_property
    def whole(self) -> bool:
        """Whether every value is an integer, so that sums are exact."""
        return _whole(self.values)

    @cached_property
    def largest_sum(self) -> float:
        """The sum of the largest absolute values of all layers: no plan adds up to more."""
        return _largest_sum(self.values)


class ResourceTable(Strict):
    """What a choice spends.

    Attributes:
        values: (L, F), at least zero.
        unit: Unit of the values: ``byte``, ``MiB``, ``us``, …
        constant: Spent whatever is chosen (launch overhead, layers outside the profile).
        combine: Whether the rows add up, or the largest counts (peak memory).
    """

    values: tuple[SizeRow, ...]
    unit: str = ""
    constant: Size = 0.0
    combine: Literal["sum", "max"] = "sum"

    @cached_property
    def whole(self) -> bool:
        """Whether every value and the constant are integers, so that sums are exact."""
        return float(self.constant).is_integer() and _whole(self.values)

    @cached_property
    def largest_sum(self) -> float:
        """The sum of the largest values of all layers, and the constant: no plan without fusions adds up to more."""
        return _largest_sum(self.values) + self.constant


class Fusion(Strict):
    """Layers that may run as one kernel, and what that kernel spends.

    A plan may use a fusion or leave it; where it does, its layers share one format and spend what the fusion says
    instead of their own entries. Fusions may overlap (qk, kv, qkv); a plan uses disjoint ones.

    Attributes:
        name: Unique name.
        layers: The layers that run together, at least two.
        resources: Resource name to what the fused kernel spends in each format; ``None`` where it does not exist.
            Resources that are not named, and all costs, stay the sum over the layers.
    """

    name: Name
    layers: Annotated[tuple[Name, ...], Field(min_length=2)]
    resources: Annotated[dict[Name, SizeRow], Field(min_length=1)]


class Provenance(Strict):
    """Where a profile came from.

    Attributes:
        data_sha256: Hash of the calibration data.
        seed: Seed of everything random.
        versions: Package name to version.
        notes: Remarks on parts of the profile, JSON pointer → text: why an entry is null, what a resource was
            counted or measured on. Rows and columns are pointed at by name.
    """

    data_sha256: str | None = None
    seed: int | None = None
    versions: dict[str, str] = {}
    notes: dict[str, str] = {}


class Profile(Strict):
    """A model as the allocator sees it: the wire format, see ``docs/profile.md``.

    Attributes:
        schema_version: Version of this contract.
        model: Name of the model, for people.
        formats: Columns, in order.
        layers: Rows, in order.
        costs: Named (L, F) tables of what a choice costs the model.
        resources: Named (L, F) tables of what a choice spends.
        fusions: Layers that may run as one kernel.
        provenance: Where the numbers came from.
        outside: Every stored tensor without a row; its bytes are part of the constant of ``weight_bytes``. Absent
            where it was not recorded.
        identity: The model that was measured; absent where it was not recorded.

    Example:
        >>> profile = load_profile(
        ...     {
        ...         "model": "tiny",
        ...         "formats": {"int4": {"weight_bits": 4}, "int8": {"weight_bits": 8}},
        ...         "layers": [{"name": "fc", "parameters": 100}],
        ...         "costs": {"kl": {"values": [[0.5, 0.1]]}},
        ...         "resources": {"weight_bytes": {"values": [[50, 100]], "unit": "byte"}},
        ...     }
        ... )
        >>> profile.layers[0].name
        'fc'
    """

    schema_version: Literal[1] = 1
    model: str = ""
    formats: Annotated[dict[Name, Format], Field(min_length=1)]
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    costs: dict[Name, CostTable] = {}
    resources: dict[Name, ResourceTable] = {}
    fusions: tuple[Fusion, ...] = ()
    provenance: Provenance = Provenance()
    outside: Annotated[tuple[Outside, ...] | None, _OMITTED] = None
    identity: Annotated[ModelIdentity | None, _OMITTED] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = Counter(layer.name for layer in self.layers)
        if repeated := [name for name, count in names.items() if count > 1]:
            raise _fault(f"layer names must be unique, repeated: {', '.join(map(repr, repeated))}", "layers")
        if not self.costs and not self.resources:
            raise _fault("expected at least one table in costs or resources, got none")
        if both := sorted(self.costs.keys() & self.resources.keys()):
            raise _fault(f"a cost and a resource share the name {both[0]!r}; rename one of them")
        shape = (len(self.layers), len(self.formats))
        for kind, tables in (("costs", self.costs), ("resources", self.resources)):
            for name, table in tables.items():
                _check_shape((kind, name, "values"), table.values, shape)
                if isinstance(table, CostTable) and table.stderr is not None:
                    _check_shape((kind, name, "stderr"), table.stderr, shape)
        _check_fusions(self)
        tensors = Counter(item.name for item in self.outside or ())
        if repeated := [name for name, count in tensors.items() if count > 1]:
            raise _fault(
                f"names of what is outside must be unique, repeated: {', '.join(map(repr, repeated))}",
                "outside",
            )
        return self

    @cached_property
    def parameters(self) -> int:
        """Number of weights of all layers together."""
        return sum(layer.parameters or 0 for layer in self.layers)

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON, 64 hexadecimal digits: the identity of the profile."""
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


#: A profile, its parsed JSON (whose tables may be data frames), its JSON text, or the path of a JSON file. A ``str``
#: that begins with ``{`` is JSON; any other is a path.
ProfileSource: TypeAlias = Profile | Mapping[str, object] | str | bytes | Path


def load_profile(source: ProfileSource) -> Profile:
    """Coerce whatever describes a profile into one, validated.

    Args:
        source: A profile, its parsed JSON, its JSON text (``bytes``, or a ``str`` that begins with ``{``), or the path
            of a JSON file. In parsed JSON a table, or its ``values`` and ``stderr``, may be a data frame with a column
            for each format and a row for each layer, see :mod:`allocator.contract.frames`.

    Returns:
        The profile.

    Raises:
        InvalidInputError: The file cannot be read or the content breaks the contract; names every offending field.
    """
    if isinstance(source, Profile):
        return source
    given = json_in(source, "profile") if isinstance(source, (str, bytes, Path)) else without_frames(source)
    try:
        if isinstance(given, (str, bytes)):
            return Profile.model_validate_json(given)
        return Profile.model_validate(given)
    except ValidationError as error:
        document = decoded(given) if isinstance(given, (str, bytes)) else given
        raise InvalidInputError(*faults_of(error.errors(), document)) from error


def _whole(rows: tuple[tuple[float | None, ...], ...]) -> bool:
    return all(value is None or float(value).is_integer() for row in rows for value in row)


def _largest_sum(rows: tuple[tuple[float | None, ...], ...]) -> float:
    return sum(max((abs(value) for value in row if value is not None), default=0.0) for row in rows)


def _check_shape(
    where: tuple[str, ...], rows: tuple[tuple[float | None, ...], ...], shape: tuple[int, int]
) -> None:
    layers, formats = shape
    if len(rows) != layers:
        raise _fault(f"expected {layers} rows, one per layer, got {len(rows)}", *where)
    for index, row in enumerate(rows):
        if len(row) != formats:
            raise _fault(f"expected {formats} values, one per format, got {len(row)}", *where, index)


def _check_fusions(profile: Profile) -> None:
    layers, seen = {layer.name for layer in profile.layers}, set()
    for at, fusion in enumerate(profile.fusions):
        where = ("fusions", at)
        if fusion.name in seen:
            raise _fault(f"fusion names must be unique, repeated: {fusion.name!r}", *where, "name")
        seen.add(fusion.name)
        for index, name in enumerate(fusion.layers):
            if name not in layers:
                raise _fault(unknown(name, layers, "layer"), *where, "layers", index)
        if len(set(fusion.layers)) != len(fusion.layers):
            raise _fault("a fusion cannot hold a layer twice", *where, "layers")
        for name, row in fusion.resources.items():
            table = profile.resources.get(name)
            if table is None:
                raise _fault(unknown(name, profile.resources, "resource"), *where, "resources")
            if table.combine == "max":
                raise _fault(
                    f"{name!r} combines by max, which a fusion cannot change", *where, "resources", name
                )
            if len(row) != len(profile.formats):
                detail = f"expected {len(profile.formats)} values, one per format, got {len(row)}"
                raise _fault(detail, *where, "resources", name)


def _fault(message: str, *at: str | int) -> PydanticCustomError:
    # The message may hold braces from user names, which pydantic would read as a template.
    return PydanticCustomError("inconsistent", "{message}", {"message": message, "at": at})
