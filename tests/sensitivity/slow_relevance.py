"""Layer-wise relevance propagation by its definitions: relevance messages between single numbers, in float64.

Nothing here uses gradients of a network. Every function takes the relevance of its outputs and gives that of its
inputs, element by element, the way the papers write it.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def stabilised(z: Array, epsilon: float) -> Array:
    return z + epsilon * np.where(z < 0, -1.0, 1.0)


def through_matrix(matrix: Array, x: Array, z: Array, relevance: Array, epsilon: float) -> Array:
    """S. Bach et al. (2015), eq. 58: R_j = Σ_k x_j w_kj / (z_k + ε sign z_k) R_k, for z = W x + b."""
    arrived = np.zeros(x.size)
    denominators = stabilised(z, epsilon)
    for k in range(z.size):
        for j in range(x.size):
            arrived[j] += x[j] * matrix[k, j] / denominators[k] * relevance[k]
    return arrived


def through_sum(a: Array, b: Array, relevance: Array, epsilon: float) -> tuple[Array, Array]:
    """The epsilon rule on z = a + b: each summand gets its part."""
    denominators = stabilised(a + b, epsilon)
    return a / denominators * relevance, b / denominators * relevance


def through_factors(a: Array, b: Array, relevance: Array, epsilon: float) -> tuple[Array, Array]:
    """AttnLRP, proposition 3.2 for an elementwise product: both factors get the same."""
    z = a * b
    half = z / stabilised(2 * z, epsilon) * relevance
    return half, half.copy()


def through_matmul(a: Array, b: Array, relevance: Array, epsilon: float) -> tuple[Array, Array]:
    """AttnLRP, eq. 15: R(a_ji) = Σ_p a_ji b_ip / (2 o_jp + ε) R_jp, and the same for b."""
    to_a, to_b = np.zeros_like(a), np.zeros_like(b)
    outputs = a @ b
    for j in range(a.shape[0]):
        for i in range(a.shape[1]):
            for p in range(b.shape[1]):
                message = (
                    a[j, i] * b[i, p] / stabilised(np.array(2 * outputs[j, p]), epsilon) * relevance[j, p]
                )
                to_a[j, i] += message
                to_b[i, p] += message
    return to_a, to_b


def through_softmax(x: Array, relevance: Array) -> Array:
    """AttnLRP, eq. 13: R_i = x_i (R_i − s_i Σ_j R_j), row by row."""
    arrived = np.zeros_like(x)
    for row in range(x.shape[0]):
        powers = np.exp(x[row] - x[row].max())
        s = powers / powers.sum()
        for i in range(x.shape[1]):
            arrived[row, i] = x[row, i] * (relevance[row, i] - s[i] * relevance[row].sum())
    return arrived


def through_max_pool(x: Array, relevance: Array, size: int) -> Array:
    """The largest input takes all; (C, H, W) and non-overlapping windows."""
    arrived = np.zeros_like(x)
    for c in range(relevance.shape[0]):
        for row in range(relevance.shape[1]):
            for column in range(relevance.shape[2]):
                window = x[c, row * size : (row + 1) * size, column * size : (column + 1) * size]
                where = np.unravel_index(window.argmax(), window.shape)
                arrived[c, row * size + where[0], column * size + where[1]] += relevance[c, row, column]
    return arrived


def convolution_matrix(weight: Array, size: tuple[int, int], padding: int) -> Array:
    """A convolution of stride 1 as a dense matrix: (out · H · W, in · H · W) for (out, in, k, k)."""
    outputs, inputs, k, _ = weight.shape
    height, width = size[0] + 2 * padding - k + 1, size[1] + 2 * padding - k + 1
    matrix = np.zeros((outputs, height, width, inputs, *size))
    for o, row, column, i, dy, dx in np.ndindex(outputs, height, width, inputs, k, k):
        y, x = row + dy - padding, column + dx - padding
        if 0 <= y < size[0] and 0 <= x < size[1]:
            matrix[o, row, column, i, y, x] += weight[o, i, dy, dx]
    return matrix.reshape(outputs * height * width, inputs * size[0] * size[1])
