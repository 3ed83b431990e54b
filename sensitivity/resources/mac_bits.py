r"""Mean bits of the weights, each weighted with the work that is done with it.

.. math:: v_{l,f} = \frac{\mathrm{MACs}_l}{\sum_k \mathrm{MACs}_k} \cdot b^w_f

The sum over layers is a mean: a budget of 4.5 means 4.5 bits per multiply-accumulate. Effective bits weigh a layer with
its size, this table with its use, which differs by orders of magnitude between a stem convolution and a classifier.
"""

from __future__ import annotations

from allocator import Fault, InvalidInputError, ResourceTable
from quantize import StorageFormat
from sensitivity.forward.forward_pass import forward_pass
from sensitivity.resources.spent import Spent, filled
from sensitivity.rows import Row, kind_of
from sensitivity.study.study import Study


def mac_bits(study: Study) -> Spent:
    """Weigh bits with multiply-accumulates of the first calibration batch.

    Returns:
        (L, F) bits; only weights count.

    Raises:
        InvalidInputError: No weight multiplies anything.
    """
    seen = forward_pass(study)
    macs = {row.name: seen.macs(row.name) if kind_of(row) == "weight" else 0 for row in study.rows}
    total = sum(macs.values())
    if not total:
        raise InvalidInputError(Fault("/resources/mac_bits", "no weight row multiplies anything in a pass"))

    def share(row: Row, fmt: StorageFormat) -> float:
        return macs[row.name] / total * fmt.bits

    return Spent(ResourceTable(values=filled(study, share), unit="bit"), "bits per multiply-accumulate")
