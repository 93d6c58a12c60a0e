"""gtsam's own smoother on its KITTI logs: the method of its published example, as a peer.

Preintegrated IMU between fixes, a bias that walks, iSAM2, and the whole trajectory from the last
estimate: every pose knows also what came after it. Numbers of noise are those of the logs' own
metadata file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

GRAVITY = 9.8
ACCEL_SIGMA, GYRO_SIGMA = 0.01, 0.000175
ACCEL_WALK, GYRO_WALK = 0.000167, 2.91e-6
GPS_SIGMA_M = 0.07
FIRST_SOLVE = 20


def smoothed(imu: F64, gps: F64, held: Sequence[int]) -> F64:
    """Places [N,3] at the instants of all fixes ``gps`` [N,4] (seconds, east, north, up), by those
    not in ``held`` and ``imu`` [M,8] (seconds, dt, accelerations, turn rates).
    """
    import gtsam
    from gtsam.symbol_shorthand import B, V, X

    diagonal = gtsam.noiseModel.Diagonal
    params = gtsam.PreintegrationParams.MakeSharedU(GRAVITY)
    params.setAccelerometerCovariance(np.eye(3) * ACCEL_SIGMA**2)
    params.setGyroscopeCovariance(np.eye(3) * GYRO_SIGMA**2)
    params.setIntegrationCovariance(np.eye(3) * 1e-8)
    place_only = np.concatenate([np.zeros(3), np.full(3, GPS_SIGMA_M**-2)])
    settings = gtsam.ISAM2Params()
    settings.setFactorization("QR")
    solver = gtsam.ISAM2(settings)
    graph, guess = gtsam.NonlinearFactorGraph(), gtsam.Values()
    pose, velocity = gtsam.Pose3(gtsam.Rot3(), gps[0, 1:]), np.zeros(3)
    bias = gtsam.imuBias.ConstantBias()
    for i in range(len(gps)):
        if i == 0:
            # Nothing is known of the attitude; exactly nothing has no solution before a bend.
            loose = diagonal.Precisions(np.concatenate([np.full(3, 1e-4), np.ones(3)]))
            graph.addPriorPose3(X(0), pose, loose)
            graph.addPriorVector(V(0), velocity, diagonal.Sigmas(np.full(3, 1000.0)))
            known = np.concatenate([np.full(3, 0.1), np.full(3, 5e-5)])
            graph.addPriorConstantBias(B(0), bias, diagonal.Sigmas(known))
        else:
            between = (imu[:, 0] >= gps[i - 1, 0]) & (imu[:, 0] < gps[i, 0])
            summed = gtsam.PreintegratedImuMeasurements(params, bias)
            for row in imu[between]:
                summed.integrateMeasurement(row[2:5], row[5:8], row[1])
            graph.add(gtsam.ImuFactor(X(i - 1), V(i - 1), X(i), V(i), B(i - 1), summed))
            walk = np.sqrt(max(1, between.sum())) * np.repeat((ACCEL_WALK, GYRO_WALK), 3)
            graph.add(
                gtsam.BetweenFactorConstantBias(
                    B(i - 1), B(i), gtsam.imuBias.ConstantBias(), diagonal.Sigmas(walk)
                )
            )
            pose = gtsam.Pose3(pose.rotation(), gps[i, 1:])
            if i not in held:
                graph.addPriorPose3(X(i), pose, diagonal.Precisions(place_only))
        guess.insert(X(i), pose)
        guess.insert(V(i), velocity)
        guess.insert(B(i), bias)
        if i >= FIRST_SOLVE:
            solver.update(graph, guess)
            graph.resize(0)
            guess.clear()
            found = solver.calculateEstimate()
            pose, velocity = found.atPose3(X(i)), found.atVector(V(i))
            bias = found.atConstantBias(B(i))
    found = solver.calculateEstimate()
    return np.array([found.atPose3(X(i)).translation() for i in range(len(gps))])
