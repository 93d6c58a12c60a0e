"""Late fusion: a camera detector's boxes and the LIDAR's clusters become boxes in space."""
