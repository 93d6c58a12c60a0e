"""What is wrong with a robot's sensor data: checks over observations of a live graph or a bag."""
