r"""Profile a checkpoint that is larger than memory, one block at a time.

The calibration tokens go through the model block by block: the weights of a block are read, its inputs are turned into
its outputs, and the Gram matrix of what each linear layer was given is gathered on the way; then the layers of the
block are rounded in every format, and the block is forgotten. What stays are the hidden states, in memory or on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from allocator import CostTable, Fault, InvalidInputError, Layer, Outside, Profile, Provenance, ResourceTable
from allocator.contract.errors import pointer, unknown
from allocator.knapsack.tables import WEIGHT_BYTES
from quantize import StorageFormat
from quantize.checkpoints.outside import outside_of_folder, with_outside
from quantize.identity import identity_of, weight_digest
from sensitivity.checkpoints.llama_blocks import (
    EMBEDDING,
    HEAD,
    Llama,
    embed,
    fill,
    forward,
    gathering,
    open_llama,
    scratch,
)
from sensitivity.checkpoints.weight_statistics import Inputs, RoundingErrors, rounding
from sensitivity.estimators.zd import share_beyond
from sensitivity.forward.hidden_states import HiddenStates, hidden_states
from sensitivity.models.layers import discover
from sensitivity.profiling.assembly import columns_of
from sensitivity.profiling.memory import free_bytes, require_memory
from sensitivity.study.calibration import digest
from sensitivity.study.study import Progress, silent, table

#: Tables that can be streamed → what an entry is.
TABLES = {
    "zd": "share of weights that are not beyond mean + 1 standard deviation, times the squared rounding error relative "
    "to the squared weights",
    "rounding_error": "squared rounding error, summed over the weights of the layer",
    "output_mse": "squared change of the layer's outputs, tr(dW X'X dW'), summed over outputs, mean over tokens; "
    "inputs of the original model",
}
_CHUNK = 2**20  # weights that are rounded at a time; larger slices are no faster
_FLOAT_BYTES = 4
_VERSIONED = ("bitalloc", "torch", "numpy", "transformers")


def profile_checkpoint(
    folder: Path,
    batches: Sequence[Tensor],
    formats: Sequence[str],
    tables: Sequence[str] = tuple(TABLES),
    *,
    name: str = "",
    exclude: Sequence[str] = (),
    spill: Path | None = None,
    progress: Progress = silent,
) -> Profile:
    """Measure what each format would cost and spend in each layer, with one block in memory.

    Args:
        folder: A Llama checkpoint: ``config.json`` and safetensors, sharded or not.
        batches: (B, T) token ids each, without padding; may be empty where ``output_mse`` is not asked for.
        tables: Which of :data:`TABLES` to fill.
        exclude: Names or globs of layers to leave in full precision.
        spill: Keep hidden states in this folder rather than in memory; they are deleted at the end.
        progress: Told after every block.

    Returns:
        A profile with one cost table per name and the resource ``weight_bytes``; rows are those of
        :func:`~sensitivity.profiling.profile_model.profile_model` on the loaded model.

    Raises:
        InvalidInputError: The checkpoint is incomplete or damaged, the data, a format or a table cannot be used, or a
            block does not fit into the memory that is free.
    """
    for asked in tables:
        if asked not in TABLES:
            raise InvalidInputError(Fault("/tables", unknown(asked, TABLES, "table")))
    columns = columns_of(formats)
    llama = open_llama(folder)
    layers = discover(llama.skeleton, exclude)
    shapes = {layer.name: tuple(layer.weight.shape) for layer in layers}
    running = "output_mse" in tables
    if running:
        _require_tokens(batches, llama.skeleton.config.vocab_size)
    _require_room(llama, batches if running else (), spill)
    found: dict[str, tuple[RoundingErrors, float]] = {}
    with torch.inference_mode(), hidden_states(spill) as keep:
        inputs = _inputs(llama, batches, keep) if running else _no_inputs(llama)
        for done, (part, grams) in enumerate(inputs, start=1):
            for layer in part:
                if layer in shapes:
                    found[layer] = _row(llama, layer, columns, grams.get(layer), "zd" in tables)
            progress("stream", done, len(llama.blocks) + 1)
    outside = _outside(llama, folder, list(shapes))
    return Profile(
        model=name or folder.name,
        formats={item.name: item.describe() for item in columns},
        layers=tuple(Layer(name=layer, parameters=int(np.prod(shapes[layer]))) for layer in shapes),
        costs={asked: _table(asked, [found[layer] for layer in shapes], batches) for asked in tables},
        resources=with_outside({WEIGHT_BYTES: _stored(list(shapes.values()), columns)}, outside),
        outside=outside,
        identity=identity_of(
            type(llama.skeleton).__name__, [(shapes[layer], _digest(llama, layer)) for layer in shapes]
        ),
        provenance=Provenance(
            data_sha256=digest(list(batches)),
            versions={item: metadata.version(item) for item in _VERSIONED},
        ),
    )


def _outside(llama: Llama, folder: Path, planned: Sequence[str]) -> tuple[Outside, ...]:
    tied = [EMBEDDING, HEAD] if llama.skeleton.config.tie_word_embeddings else []
    names = [tied if layer in tied else [layer] for layer in planned]
    return outside_of_folder(folder, names, otherwise="left out of the rows that were asked for")


def _digest(llama: Llama, layer: str) -> str:
    name = f"{layer}.weight"
    pieces = (chunk.numpy() for chunk in llama.checkpoint.chunks(name, _CHUNK))
    return weight_digest(llama.checkpoint.slots[name].shape, pieces)


def _inputs(
    llama: Llama, batches: Sequence[Tensor], keep: HiddenStates
) -> Iterator[tuple[list[str], Mapping[str, Inputs]]]:
    # Layer names and what went into each, block by block; last the embedding and the head, which may be one weight.
    hidden, counts = embed(llama, batches)
    for index, state in enumerate(hidden):
        keep.put(index, state)
    del hidden
    block = scratch(llama.blocks[0])  # blocks of a Llama are alike
    linear = {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}
    for index in range(len(llama.blocks)):
        path = f"model.layers.{index}"
        fill(llama, block, path)
        with gathering(linear) as grams:
            for batch in range(len(batches)):
                keep.put(batch, forward(llama, block, keep.get(batch)))
        named = {f"{path}.{name}": Inputs(gram=gram) for name, gram in grams.items()}
        del grams
        yield list(named), named
        named.clear()  # whoever got it may still hold it while the next block is read
    last = torch.zeros(llama.skeleton.config.hidden_size, llama.skeleton.config.hidden_size)
    norm = scratch(llama.skeleton.model.norm)
    fill(llama, norm, "model.norm")
    for batch in range(len(batches)):
        rows = norm(keep.get(batch)).flatten(0, 1)  # (B · T, D)
        last.addmm_(rows.T, rows)
    if llama.skeleton.config.tie_word_embeddings:
        yield [EMBEDDING], {EMBEDDING: Inputs(gram=last, counts=counts)}
    else:
        yield [EMBEDDING, HEAD], {EMBEDDING: Inputs(counts=counts), HEAD: Inputs(gram=last)}


def _no_inputs(llama: Llama) -> Iterator[tuple[list[str], Mapping[str, Inputs]]]:
    for index, block in enumerate(llama.blocks):
        names = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
        yield [f"model.layers.{index}.{name}" for name in names], {}
    yield [EMBEDDING, HEAD], {}


def _row(
    llama: Llama, layer: str, columns: Sequence[StorageFormat], inputs: Inputs | None, shares: bool
) -> tuple[RoundingErrors, float]:
    if inputs is not None and inputs.gram is not None and not torch.isfinite(inputs.gram.diagonal()).all():
        detail = f"what goes into layer {layer!r} is not finite; is the checkpoint damaged?"
        raise InvalidInputError(Fault("/batches", detail))
    slices = partial(llama.checkpoint.chunks, f"{layer}.weight", _CHUNK)
    try:
        return rounding(slices, columns, inputs), share_beyond(slices) if shares else 0.0
    except InvalidInputError as error:
        where = pointer(("layers", layer))
        raise InvalidInputError(*(Fault(where, fault.detail) for fault in error.faults)) from error


def _table(asked: str, rows: Sequence[tuple[RoundingErrors, float]], batches: Sequence[Tensor]) -> CostTable:
    tokens = sum(batch.numel() for batch in batches)
    values = []
    for row, share in rows:
        if asked == "zd":
            values.append((1 - share) * row.squared / (row.norm or 1.0))
        else:
            values.append(row.squared if asked == "rounding_error" else row.output / tokens)
    kinds: Literal["one_kind"] | None = None if asked == "zd" else "one_kind"
    return table(np.array(values), None, TABLES[asked], comparable=kinds)  # (L, F)


def _stored(shapes: Sequence[tuple[int, ...]], columns: Sequence[StorageFormat]) -> ResourceTable:
    values = tuple(tuple(float(item.stored_bytes(shape)) for item in columns) for shape in shapes)
    return ResourceTable(values=values, unit="byte")


def _require_tokens(batches: Sequence[Tensor], vocabulary: int) -> None:
    if not batches:
        raise InvalidInputError(Fault("/batches", "expected at least one calibration batch, got none"))
    for index, batch in enumerate(batches):
        where = pointer(("batches", index))
        if (
            not isinstance(batch, Tensor)
            or batch.dim() != 2
            or batch.dtype != torch.int64
            or not batch.numel()
        ):
            raise InvalidInputError(Fault(where, "expected token ids, an int64 tensor of shape (B, T)"))
        if int(batch.min()) < 0 or int(batch.max()) >= vocabulary:
            came = f"{int(batch.min())} to {int(batch.max())}"
            raise InvalidInputError(Fault(where, f"expected ids from 0 to {vocabulary - 1}, got {came}"))


def _require_room(llama: Llama, batches: Sequence[Tensor], spill: Path | None) -> None:
    config = llama.skeleton.config
    tokens = [batch.numel() for batch in batches]
    needed = {"rounding": 6 * _CHUNK * _FLOAT_BYTES}
    if batches:
        block = llama.blocks[0]
        squares = {module.in_features**2 for module in block.modules() if isinstance(module, nn.Linear)}
        needed["a block"] = _FLOAT_BYTES * sum(value.numel() for value in block.parameters())
        needed["its Gram matrices"] = _FLOAT_BYTES * (sum(squares) + 2 * config.hidden_size**2)
        needed["its activations"] = (
            _FLOAT_BYTES * max(tokens) * (4 * config.intermediate_size + 6 * config.hidden_size)
        )
        held = 0 if spill else sum(tokens)
        needed["hidden states"] = _FLOAT_BYTES * config.hidden_size * held
    advice = "use smaller batches, or `spill` to keep hidden states on disk"
    require_memory(needed, free_bytes(), "/batches", advice)
