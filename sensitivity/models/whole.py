"""Models that are in memory as a whole: what is elsewhere cannot be measured."""

from __future__ import annotations

from torch import nn

from allocator import Fault, InvalidInputError


def require_whole(model: nn.Module) -> None:
    """Refuse a model of which parts are on the meta device, as after loading with ``device_map`` and offload.

    Raises:
        InvalidInputError: A weight is not in memory.

    Example:
        >>> require_whole(nn.Linear(2, 2))
    """
    absent = [name for name, weight in model.named_parameters() if weight.is_meta]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        detail = (
            f"{absent[0]!r}{more} is not in memory (on the meta device, as device_map offloads it); load the model "
            "whole, or stream it with "
            "sensitivity.checkpoints.streaming.profile_checkpoint"
        )
        raise InvalidInputError(Fault("/model", detail))
