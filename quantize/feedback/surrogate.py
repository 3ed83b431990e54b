r"""What measured plans say about plans that were not: a Gaussian process on log(measured ÷ predicted).

With predictions p = Σ t_u(x_u) from the table and shares s_u = t_u(x_u) / p, a table whose entries are off by factors
(1 + c) is off by Σ s_u c_u to first order. Independent c ~ N(0, a) make that a linear kernel, and its posterior is a
**corrected table**. What no table can say (errors of layers that cancel or reinforce each other) is left to a kernel
that falls with the number of units in which two plans differ, a general factor, and a power of the prediction:

.. math:: k(x, x') = a_0 + a_p \ln p \ln p' + a_t \sum_u [x_u = x'_u] s_u s'_u + a_h e^{-\operatorname{ham}(x, x')/\ell}

Amplitudes and ℓ are those of a grid that make the measured losses most likely. Source: C. E. Rasmussen and C. K. I.
Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1 and section 2.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from allocator.knapsack.problem import FloatArray, IntArray
from quantize.feedback.space import Space

_FACTOR, _POWER, _JITTER = 1.0, 0.1, 1e-6
_TABLE = (0.0, 0.1, 1.0)
_HAMMING = (0.01, 0.03, 0.1, 0.3, 1.0)
_LENGTH = (1 / 6, 1 / 3, 2 / 3, 4 / 3)  # of the number of units


@dataclass(frozen=True)
class Kernel:
    """Amplitudes of the parts.

    Attributes:
        table: Variance of the relative error of an entry of the table.
        hamming: Variance of what depends on how units go together.
        length: Units in which plans differ when the latter has fallen by a factor of e.
    """

    table: float
    hamming: float
    length: float


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The process, given what was measured.

    Attributes:
        space: The table, and the plans.
        plans: (M, U) measured plans.
        kernel: The likeliest kernel.
        centre: Mean logarithm of their predictions.
        root: (M, M) lower Cholesky factor of the kernel matrix.
        weights: (M,) its inverse times the log ratios.
    """

    space: Space
    plans: IntArray
    kernel: Kernel
    centre: float
    root: FloatArray
    weights: FloatArray

    def log_loss(self, plans: IntArray) -> tuple[FloatArray, FloatArray]:
        """Foresee plans.

        Args:
            plans: (N, U).

        Returns:
            (N,) mean and (N,) standard deviation of the logarithm of the loss.
        """
        log_p = np.log(self.space.predicted(plans))
        cross = _covariance(_parts(self.space, plans, self.plans, self.centre), self.kernel)  # (N, M)
        squared = self.space.shares(plans).power(2).sum(axis=1)
        own = (
            _FACTOR + _POWER * (log_p - self.centre) ** 2 + self.kernel.table * squared + self.kernel.hamming
        )
        explained = solve_triangular(self.root, cross.T, lower=True)  # (M, N)
        deviation = np.sqrt(np.maximum(own - (explained**2).sum(axis=0), 0.0))
        return log_p + cross @ self.weights, deviation

    def corrected_cost(self, random: np.random.Generator | None = None) -> FloatArray:
        """The table as the measured plans see it.

        Args:
            random: Draws a table from the posterior; without it, the mean.

        Returns:
            (U, O), above zero.
        """
        shares = self.space.shares(self.plans)  # (M, U·O)
        correction = self.kernel.table * (shares.T @ self.weights)
        if random is not None:  # Matheron's rule: correct a draw from the prior by what it fails to explain
            drawn = np.sqrt(self.kernel.table) * random.standard_normal(shares.shape[1])
            others = (
                _covariance(_parts(self.space, self.plans, self.plans, self.centre), self.kernel)
                - self.kernel.table * (shares @ shares.T).toarray()
            )
            noise = np.linalg.cholesky(others + _JITTER * np.eye(len(others)))
            said = shares @ drawn + noise @ random.standard_normal(len(others))
            correction = (
                correction + drawn - self.kernel.table * (shares.T @ cho_solve((self.root, True), said))
            )
        corrected: FloatArray = self.space.cost * np.exp(correction.reshape(self.space.cost.shape))
        return corrected


def fitted(space: Space, plans: IntArray, losses: FloatArray) -> Surrogate:
    """Find the likeliest kernel and condition the process.

    Args:
        plans: (M, U) measured plans, M ≥ 1, no two alike.
        losses: (M,) measured, above zero.

    Returns:
        The process.
    """
    log_p = np.log(space.predicted(plans))
    ratios = np.log(losses) - log_p
    centre = float(log_p.mean())
    parts = _parts(space, plans, plans, centre)
    found: tuple[float, Surrogate] | None = None
    for table, hamming, length in product(_TABLE, _HAMMING, _LENGTH):
        kernel = Kernel(table, hamming, length * space.units)
        matrix = _covariance(parts, kernel) + _JITTER * np.eye(len(plans))
        root = cholesky(matrix, lower=True)
        weights = cho_solve((root, True), ratios)
        likelihood = float(-0.5 * ratios @ weights - np.log(np.diag(root)).sum())
        if found is None or likelihood > found[0]:
            found = (likelihood, Surrogate(space, plans, kernel, centre, root, weights))
    assert found is not None
    return found[1]


def _parts(
    space: Space, first: IntArray, second: IntArray, centre: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    # Everything that does not depend on amplitudes: fixed part, Σ s s′ where units agree, units that differ.
    logs = [np.log(space.predicted(plans)) - centre for plans in (first, second)]
    agreeing = (space.choices(first) @ space.choices(second).T).toarray()
    common = (space.shares(first) @ space.shares(second).T).toarray()
    return _FACTOR + _POWER * np.outer(*logs), common, space.units - agreeing


def _covariance(parts: tuple[FloatArray, FloatArray, FloatArray], kernel: Kernel) -> FloatArray:
    fixed, common, apart = parts
    return fixed + kernel.table * common + kernel.hamming * np.exp(-apart / kernel.length)
