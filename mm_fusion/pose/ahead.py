"""A pose for an instant that no sensor has told of yet: the last one, carried on by its velocity.

Estimates come with the samples; who asks where the robot is *now* asks for a little more. The
answer is marked (``PoseEstimate.extrapolated_ns``), its covariance grows with what a vehicle may
have done meanwhile, and beyond ``limit_s`` there is none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mm_fusion.geometry import RigidTransform, rotation_exp, skew
from mm_fusion.samples import NS_PER_S, PoseEstimate

F64 = npt.NDArray[np.float64]

ACCELERATION_MPS2 = 1.5  # one sigma per axis of what may have begun meanwhile
TURN_RADPS2 = 0.7


def ahead(estimate: PoseEstimate, stamp_ns: int, limit_s: float) -> PoseEstimate | None:
    """``estimate`` carried to ``stamp_ns`` with constant velocity and turn rate in base axes; None
    where that is before it, or more than ``limit_s`` after.
    """
    passed_ns = stamp_ns - estimate.stamp_ns
    dt_s = passed_ns / NS_PER_S
    if not 0.0 <= dt_s <= limit_s:
        return None
    base = estimate.frame_from_base
    half_x, half_y, half_z = (estimate.angular * (0.5 * dt_s)).tolist()
    half_turn = rotation_exp(half_x, half_y, half_z)
    middle = base.rotation @ half_turn
    way = middle @ estimate.linear * dt_s
    # By the attitude the way turns; by the twist's errors it is longer and turns, too.
    move = np.eye(6)
    move[:3, 3:] = -skew(way)
    twist = np.zeros((6, 6))
    twist[:3, :3], twist[3:, 3:] = middle * dt_s, middle * dt_s
    grown = np.repeat((ACCELERATION_MPS2, TURN_RADPS2), 3) ** 2
    pose = move @ estimate.pose_covariance @ move.T + twist @ estimate.twist_covariance @ twist.T
    return PoseEstimate(
        stamp_ns=stamp_ns,
        frame_id=estimate.frame_id,
        child_frame_id=estimate.child_frame_id,
        frame_from_base=RigidTransform.trusted(middle @ half_turn, base.translation + way),
        linear=estimate.linear,
        angular=estimate.angular,
        pose_covariance=pose + np.diag(grown * (0.5 * dt_s**2) ** 2),
        twist_covariance=estimate.twist_covariance + np.diag(grown * dt_s**2),
        extrapolated_ns=passed_ns,
    )
