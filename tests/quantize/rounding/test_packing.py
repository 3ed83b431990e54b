"""Dense bits, next to one large number per row of codes."""

from __future__ import annotations

import numpy as np
import pytest

from quantize.rounding.packing import packed


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_lie_one_after_the_other_from_the_lowest_bit(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, size=(3, 5, 13))
    made = packed(codes, bits)
    assert made.shape == (3, 5, -(-13 * bits // 8))
    for row, data in zip(codes.reshape(15, 13).tolist(), made.reshape(15, -1), strict=True):
        number = sum(code << (bits * place) for place, code in enumerate(row))
        assert int.from_bytes(data.tobytes(), "little") == number
