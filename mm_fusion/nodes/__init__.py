"""The ROS 2 side: the only code that imports rclpy. A callback converts, hands over, publishes."""
