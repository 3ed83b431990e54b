"""What a model stores and a profile does not plan: each tensor with its bytes and the reason."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from allocator.contract.schema import Count, Name, Strict


class Outside(Strict):
    """A stored tensor that no row of the profile is about.

    Attributes:
        name: Name of the tensor, usually that of the parameter.
        parameters: How many numbers it holds.
        stored_bytes: What they take in the file; every plan pays them.
        reason: Why it is not planned: ``norm``, ``bias``, ``LSTM: not supported here``, …

    Example:
        >>> Outside(name="norm.weight", parameters=64, stored_bytes=256, reason="norm").stored_bytes
        256
    """

    name: Name
    parameters: Count
    stored_bytes: Count
    reason: Annotated[str, StringConstraints(min_length=1, max_length=512)]
