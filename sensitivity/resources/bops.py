r"""Bit operations of one sample.

.. math:: \mathrm{BOPs}_{l,f} = \mathrm{MACs}_l \cdot b^w_f \cdot b^a_f

A multiplication of a b-bit by an a-bit number takes a · b operations on bits. For attention the two operands are the
cached keys or values, in the row's format, and queries or probabilities.

Source: Z. Yao et al., "HAWQ-V3", ICML 2021, section 3.3 (G = b_w · b_a · MAC; its notebooks call MACs / 10⁶ by the same
name); M. van Baalen et al., "Bayesian Bits", NeurIPS 2020, section 4.
"""

from __future__ import annotations

from typing import Literal

from allocator import Fault, InvalidInputError, ResourceTable
from quantize import StorageFormat
from sensitivity.forward.forward_pass import forward_pass
from sensitivity.resources.spent import Spent, filled
from sensitivity.rows import ActivationRef, LayerRef, Row
from sensitivity.study.study import Study


def bops(study: Study, inputs: Literal["format", "tied"] = "format") -> Spent:
    """Count bit operations of one sample of the first calibration batch.

    Args:
        inputs: Bits of the inputs of a layer: ``format`` takes the activation bits of the weight's format (16 for
            formats that narrow weights only); ``tied`` takes the bits of the weight, for plans that give a weight and
            its input one format (one unit), as HAWQ does.

    Returns:
        (L, F) bit operations.

    Raises:
        InvalidInputError: ``inputs`` is neither, or the study has rows for activations that are not tied: their bits
            multiply those of the weight, which no sum over rows can say.
    """
    if inputs not in ("format", "tied"):
        raise InvalidInputError(
            Fault("/resources/bops/inputs", f"expected 'format' or 'tied', got {inputs!r}")
        )
    if inputs == "format" and any(isinstance(row, ActivationRef) for row in study.others):
        detail = (
            "bit operations multiply the bits of a weight by those of its input, which a sum over rows cannot say; "
            "leave out the rows of kind 'activation', or put each weight and its input in one unit "
            "(units='tied_input') and bind inputs='tied'"
        )
        raise InvalidInputError(Fault("/resources/bops", detail))
    seen = forward_pass(study)

    def operations(row: Row, fmt: StorageFormat) -> float:
        tied = inputs == "tied" and isinstance(row, LayerRef)
        other = fmt.bits if tied else fmt.describe().activation_bits or fmt.bits
        return seen.macs(row.name) * fmt.bits * other

    note = (
        "multiply-accumulates of one sample of the first calibration batch, all pairs of tokens in attention"
    )
    return Spent(ResourceTable(values=filled(study, operations), unit="bop"), note)
