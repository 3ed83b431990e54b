"""Modules under the names of their checkpoint, where transformers calls them otherwise.

Since release 5 transformers renames weights as it loads them: the head of a GPT-NeoX is ``embed_out`` in the checkpoint
and ``lm_head`` in the model. A plan is about the checkpoint, so its name comes first here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from quantize.checkpoints.safetensors import load_weight, stored_weights


def name_as_stored(model: nn.Module, folder: Path) -> None:
    """Give renamed layers their own name as well, before the one of transformers.

    ``named_modules`` calls a module by its first name, and so does everything here; the model computes as before.

    Args:
        model: As it was loaded from the folder; changed in place.
        folder: The checkpoint; without safetensors nothing is done.
    """
    if not any(folder.glob("*.safetensors")):
        return
    stored = stored_weights(folder)
    modules = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    held = {name for name, module in model.named_modules(remove_duplicate=False) if hasattr(module, "weight")}
    for name in sorted(set(stored) - held):
        parent = name.rpartition(".")[0]
        for other, module in modules.items():
            if (
                other in stored
                or other.rpartition(".")[0] != parent
                or tuple(module.weight.shape) != stored[name].shape
            ):
                continue
            if np.array_equal(load_weight(stored[name]), module.weight.detach().float().cpu().numpy()):
                _put_before(model.get_submodule(parent), name.rpartition(".")[2], other.rpartition(".")[2])
                break


def _put_before(parent: nn.Module, name: str, other: str) -> None:
    parts = dict(parent._modules)
    parent._modules.clear()
    for key, module in parts.items():
        if key == other:
            parent._modules[name] = module
        parent._modules[key] = module
