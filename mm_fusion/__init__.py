"""Real-time camera, LIDAR and GPS fusion for ROS 2."""

__version__ = "0.1.0"
