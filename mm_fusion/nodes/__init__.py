"""The ROS 2 side: the only code that imports rclpy. A callback converts, hands over, publishes."""

import os

# OpenBLAS reads it when numpy is imported, which is after this. Its helper threads spin for a
# while after every matrix product: at ten sweeps a second they burn more than the network needs,
# and none of the products here is large enough to gain by them. What the user has set stays.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The same of OpenCV's: they resize a picture no sooner, and several pictures are shared out whole.
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
