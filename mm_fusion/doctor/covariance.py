"""What can be wrong with a covariance matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

ZERO = "all zero"
NOT_MEASURED = "-1 (not measured)"
NOT_SYMMETRIC = "not symmetric"
NEGATIVE = "negative variance"
INDEFINITE = "not positive semidefinite"
TINY = "absurdly small"
HUGE = "so large that it says nothing"
GOOD = ""

# Variances outside of these are nobody's honest noise: m^2, (rad/s)^2, (m/s^2)^2 alike.
TINY_VARIANCE = 1e-12
HUGE_VARIANCE = 1e6


def fault(matrix: F64, marked: bool = False) -> str:
    """The first thing that is wrong with a square matrix, GOOD where nothing is.

    A zero or very large variance of single axes is normal (an axis that is not measured): only a
    matrix whose every variance is tiny, or huge, is called so. ``marked``: -1 in the first place
    means that there is no such datum, as in sensor_msgs/Imu. The definiteness allows for the
    rounding of numbers that were written as float32.
    """
    variances = np.diag(matrix)
    allowed = 1e-5 * float(np.abs(matrix).max())
    checks = (
        (ZERO, not matrix.any()),
        (NOT_MEASURED, marked and variances[0] == -1.0),
        (NEGATIVE, variances.min() < 0.0),
        (NOT_SYMMETRIC, np.abs(matrix - matrix.T).max() > allowed),
        (INDEFINITE, np.linalg.eigvalsh((matrix + matrix.T) / 2.0)[0] < -allowed),
        (TINY, variances.max() < TINY_VARIANCE),
        (HUGE, variances.min() > HUGE_VARIANCE),
    )
    return next((name for name, wrong in checks if wrong), GOOD)
