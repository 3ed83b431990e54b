"""Models of which parts are elsewhere are refused before anything is measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from allocator import InvalidInputError
from sensitivity import profile_model
from sensitivity.models.whole import require_whole


def test_an_offloaded_model_is_refused_with_what_to_do() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2, device="meta"))

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        losses: Tensor = model(batch).sum(1)
        return losses

    words = r"/model: '1.weight' and 1 more is not in memory .* stream it with sensitivity"
    with pytest.raises(InvalidInputError, match=words):
        profile_model(model, [torch.ones(2, 4)], loss, ["int4"], ["weight_error"])
    require_whole(model[:1])
