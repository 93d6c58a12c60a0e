"""What is wrong with a robot's topics, clocks and transforms, live or in a bag."""
