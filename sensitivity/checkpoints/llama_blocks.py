"""A Llama checkpoint as a list of blocks, of which one at a time is in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from allocator import Fault, InvalidInputError
from allocator.contract.errors import require, unknown
from sensitivity.checkpoints.safetensors import Checkpoint, open_checkpoint, require_tensors

#: Architectures that can be streamed: transformers' ``model_type``.
ARCHITECTURES = ("llama",)
EMBEDDING = "model.embed_tokens"
HEAD = "lm_head"
_CHUNK = 2**20  # numbers of the embedding that are in memory at a time


@dataclass(frozen=True, eq=False)
class Llama:
    """A model without its weights.

    Attributes:
        checkpoint: Where the weights are.
        skeleton: transformers' model on the meta device.
        rotary: Position embeddings; they have no weights.
    """

    checkpoint: Checkpoint
    skeleton: Any
    rotary: nn.Module

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The decoder layers, without weights."""
        blocks: Sequence[nn.Module] = self.skeleton.model.layers
        return blocks


def open_llama(folder: Path) -> Llama:
    """Open a checkpoint.

    Args:
        folder: Folder with ``config.json`` and safetensors.

    Returns:
        The model; no weight has been read.

    Raises:
        InvalidInputError: The folder does not hold a whole model of a known architecture.
    """
    transformers = require("transformers", "models")
    checkpoint = open_checkpoint(folder)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever the file says is wrong with it
        detail = f"{str(folder / 'config.json')!r} cannot be read: {str(error).splitlines()[0]}"
        raise InvalidInputError(Fault("/checkpoint", detail)) from error
    if config.model_type not in ARCHITECTURES:
        detail = unknown(config.model_type, ARCHITECTURES, "architecture to stream")
        raise InvalidInputError(Fault("/checkpoint", detail))
    with torch.device("meta"):
        # Scaled dot-product attention is causal without a mask; eager attention would not be.
        skeleton = transformers.LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    require_tensors(checkpoint, {name: tuple(value.shape) for name, value in skeleton.named_parameters()})
    rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config=config)
    return Llama(checkpoint, skeleton.eval(), rotary)


def scratch(module: nn.Module) -> nn.Module:
    """A copy of a module with memory for weights, to be filled again and again.

    Memory that is given back and taken anew for every block leaves holes that small objects keep from closing; one
    piece for all of them does not grow.

    Args:
        module: A part of the skeleton.

    Returns:
        The copy, in single precision; what its weights are is not defined yet.
    """
    return copy.deepcopy(module).to(torch.float32).to_empty(device="cpu")


def fill(llama: Llama, module: nn.Module, name: str) -> None:
    """Read the weights of a part of the model.

    Args:
        module: From :func:`scratch`.
        name: Path of the part.
    """
    with torch.no_grad():
        for key, weight in module.named_parameters():
            weight.copy_(llama.checkpoint.read(f"{name}.{key}"))


def embed(llama: Llama, batches: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Look tokens up, without the whole embedding in memory.

    Args:
        batches: (B, T) token ids each.

    Returns:
        (B, T, D) hidden states each, and (V,) how often each token occurs.
    """
    vocabulary, width = llama.checkpoint.slots[f"{EMBEDDING}.weight"].shape
    hidden = [torch.empty(*batch.shape, width) for batch in batches]
    counts = torch.zeros(vocabulary, dtype=torch.int64)
    first = 0
    for part in llama.checkpoint.chunks(f"{EMBEDDING}.weight", _CHUNK):
        for batch, state in zip(batches, hidden, strict=True):
            here = (batch >= first) & (batch < first + len(part))  # (B, T)
            state[here] = part[batch[here] - first]
        first += len(part)
    for batch in batches:
        counts += torch.bincount(batch.flatten(), minlength=vocabulary)
    return hidden, counts


def forward(llama: Llama, block: nn.Module, hidden: Tensor) -> Tensor:
    """Run a block.

    Args:
        block: A block, filled.
        hidden: (B, T, D).

    Returns:
        (B, T, D).
    """
    positions = torch.arange(hidden.shape[1])[None]  # (1, T)
    angles = llama.rotary(hidden, position_ids=positions)
    output: Tensor = block(hidden, attention_mask=None, position_embeddings=angles, position_ids=positions)
    return output


@contextmanager
def gathering(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Gather the Gram matrix of the inputs of linear layers while they run.

    Args:
        modules: Name → linear layer.

    Yields:
        Name → (in, in) sum of x xᵀ over all tokens so far; layers that are given the same tensor share one matrix.
        Hooks are gone at the end.
    """
    grams: dict[str, Tensor] = {}
    seen: list[tuple[Tensor, str]] = []  # inputs of the current pass, and who was given each first
    handles = []

    def gather(name: str, inputs: Tensor) -> None:
        if any(earlier == name for _, earlier in seen):
            seen.clear()  # the next pass
        for tensor, earlier in seen:
            if tensor is inputs:
                grams[name] = grams[earlier]
                return
        seen.append((inputs, name))
        rows = inputs.flatten(0, -2)  # (B · T, in)
        if name not in grams:
            grams[name] = torch.zeros(rows.shape[1], rows.shape[1])
        grams[name].addmm_(rows.T, rows)

    try:
        for name, module in modules.items():

            def keep(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                gather(name, inputs[0])

            handles.append(module.register_forward_pre_hook(keep))
        yield grams
    finally:
        for handle in handles:
            handle.remove()
