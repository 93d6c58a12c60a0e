"""Parameters of the pose filter."""

from __future__ import annotations

from dataclasses import dataclass

from mm_fusion.parameters import param


@dataclass(frozen=True)
class PoseConfig:
    """The pose filter. Noise is per axis, one standard deviation."""

    datum: tuple[float, ...] = param(
        (0.0, 0.0, 0.0),
        "Origin of the map frame: latitude, longitude (deg), ellipsoidal height (m);"
        " all zero: the first good fix",
    )
    gps_sigma_m: float = param(
        2.0,
        "Horizontal error per axis of a fix with unknown covariance, half of it with SBAS, a"
        " quarter with GBAS; twice that in height",
        unit="m",
        low=0.01,
        high=100.0,
    )
    gps_sigma_floor_m: float = param(
        0.02, "Added (in squares) to what a receiver claims", unit="m", low=0.001, high=50.0
    )
    gps_lever_arm_sigma_m: float = param(
        0.5,
        "Uncertainty of the antenna's place where neither TF nor parameters give it",
        unit="m",
        low=0.0,
        high=10.0,
    )
    gps_use_altitude: bool = param(True, "Fuse the height of fixes")
    gps_max_distance_m: float = param(
        100000.0, "Fixes farther from the datum are refused", unit="m", low=100.0, high=1e7
    )
    gps_max_delay_s: float = param(
        0.5, "Fixes that come later than this are refused", unit="s", low=0.0, high=5.0
    )
    gps_blackout_s: float = param(
        5.0,
        "Fixes refused after this long without a good one are believed after gps_recover_s",
        unit="s",
        low=0.5,
        high=600.0,
    )
    gps_recover_s: float = param(
        3.0,
        "Refused fixes that agree for this long are believed after a blackout, or when they went"
        " off gradually",
        unit="s",
        low=0.0,
        high=600.0,
    )
    gps_persist_s: float = param(
        30.0,
        "Refused fixes that agree for this long are believed when they had jumped",
        unit="s",
        low=0.0,
        high=3600.0,
    )
    max_speed_mps: float = param(
        70.0, "No vehicle of this kind is faster", unit="m/s", low=0.5, high=400.0
    )
    heading_distance_m: float = param(
        3.0,
        "The heading in the map is sought after this much motion",
        unit="m",
        low=0.5,
        high=200.0,
    )
    heading_sigma_rad: float = param(
        0.15,
        "The heading in the map counts as known below this uncertainty",
        unit="rad",
        low=0.01,
        high=0.5,
    )
    wheel_sigma_mps: float = param(
        0.05,
        "Error of the wheels' forward speed, where the message has no covariance",
        unit="m/s",
        low=0.001,
        high=5.0,
    )
    wheel_scale_sigma: float = param(
        0.01, "Relative error of the wheels' speed, estimated online", low=0.0, high=0.5
    )
    wheel_yaw_sigma_radps: float = param(
        0.05,
        "Error of the wheels' yaw rate (used without IMU), where the message has no covariance",
        unit="rad/s",
        low=0.001,
        high=5.0,
    )
    nonholonomic: bool = param(
        True, "The base does not move sideways (false: the wheels' lateral speed is measured)"
    )
    lateral_sigma_mps: float = param(
        0.1, "How far the base moves sideways or up all the same", unit="m/s", low=0.001, high=5.0
    )
    lateral_slip: float = param(
        0.02, "The same in proportion to the speed, added in squares", low=0.0, high=0.5
    )
    gyro_noise: float = param(
        0.002,
        "Gyro noise density, where the message has no covariance",
        unit="rad/s/sqrt(Hz)",
        low=1e-6,
        high=1.0,
    )
    accel_noise: float = param(
        0.03,
        "Accelerometer noise density with vibration, where the message has no covariance",
        unit="m/s^2/sqrt(Hz)",
        low=1e-5,
        high=10.0,
    )
    gyro_bias_walk: float = param(
        2e-5, "Random walk of gyro biases", unit="rad/s/sqrt(s)", low=0.0, high=0.1
    )
    accel_bias_walk: float = param(
        5e-4, "Random walk of accelerometer biases", unit="m/s^2/sqrt(s)", low=0.0, high=1.0
    )
    gyro_bias_sigma: float = param(
        0.01, "Gyro biases at the start", unit="rad/s", low=0.0, high=1.0
    )
    accel_bias_sigma: float = param(
        0.1, "Accelerometer biases at the start", unit="m/s^2", low=0.0, high=5.0
    )
    gravity_mps2: float = param(9.80665, "Gravity", unit="m/s^2", low=1.0, high=30.0)
    imu_orientation: str = param(
        "off",
        "Heading from the orientation in IMU messages: off; local, a compass in the local estimate;"
        " map, measured from east by two antennas or a compass, known from the first fix on",
        choices=("off", "local", "map"),
    )
    imu_orientation_offset_rad: float = param(
        0.0,
        "Added to that heading: the magnetic declination (west positive), or how antennas lie",
        unit="rad",
        low=-6.3,
        high=6.3,
    )
    imu_orientation_sigma_rad: float = param(
        0.02, "Error of that heading", unit="rad", low=0.001, high=3.0
    )
    imu_timeout_s: float = param(
        0.3, "Without IMU for this long, the wheels carry the pose", unit="s", low=0.02, high=10.0
    )
    imu_settle_s: float = param(
        5.0,
        "An IMU of unknown mounting is levelled after at most this long, when not at rest",
        unit="s",
        low=0.5,
        high=60.0,
    )
    mounting_tolerance_rad: float = param(
        0.26,
        "Gravity may contradict the IMU's mounting by this much",
        unit="rad",
        low=0.02,
        high=1.5,
    )
    zero_velocity: bool = param(True, "Hold the pose at standstill and learn the biases there")
    standstill_speed_mps: float = param(
        0.02, "Mean wheel speed at standstill stays below", unit="m/s", low=0.0001, high=1.0
    )
    gps_correlation_s: float = param(
        30.0,
        "The slow part of the fixes' error changes within this time",
        unit="s",
        low=1.0,
        high=3600.0,
    )
    position_walk: float = param(
        0.01,
        "Slow error of GPS as random walk of the global position: keeps its covariance honest",
        unit="m/sqrt(s)",
        low=0.0,
        high=5.0,
    )
    time_jump_s: float = param(
        1.0,
        "Stamps further back than this, three in a row, start the pose anew",
        unit="s",
        low=0.1,
        high=3600.0,
    )
    lidar_odometry: bool = param(
        False,
        "Measure motion from sweep to sweep of the first LIDAR (takes the package small_gicp, and"
        " a third of a core for 64 beams at 10 Hz)",
    )
    lidar_voxel_m: float = param(
        0.5, "Sweeps are thinned to one point per cube of this size", unit="m", low=0.05, high=5.0
    )
    lidar_map_voxel_m: float = param(
        1.0, "Cell of the map sweeps are aligned with", unit="m", low=0.1, high=10.0
    )
    lidar_range_m: float = param(
        80.0, "Points farther off are not registered", unit="m", low=5.0, high=300.0
    )
    lidar_sigma_m: float = param(
        0.05,
        "Error of a thinned point along its surface's normal, with what the alignment adds to it",
        unit="m",
        low=0.001,
        high=1.0,
    )
    lidar_floor_m: float = param(
        0.002, "Error of a sweep's motion that no point tells", unit="m", low=0.0, high=1.0
    )
    lidar_floor_rad: float = param(
        1e-4, "Error of a sweep's rotation that no point tells", unit="rad", low=0.0, high=0.1
    )
    lidar_drift: float = param(
        0.002, "Error of a sweep's motion in proportion to the way", low=0.0, high=0.5
    )
    lidar_degenerate: float = param(
        0.02,
        "A direction that a sweep's surfaces tell less about (mean square of a point's share) gets"
        " no weight",
        low=0.0,
        high=0.3,
    )
