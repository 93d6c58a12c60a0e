"""The offline side: bags in, the two roads driven without ROS, scores and a report out."""
