"""The second road: GPS, IMU and wheel odometry in, the pose of the base out (REP-105)."""
