"""A seeded simulated town: sensors, faults, truth, training frames and bags. No ROS import here."""
