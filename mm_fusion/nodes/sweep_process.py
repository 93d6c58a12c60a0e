"""Registers LIDAR sweeps for pose_node, in a process of its own.

The registration library holds Python's lock while it computes, so that beside it in one process
nobody would hear the IMU for tens of milliseconds. Configuration and sweeps come on the standard
input, outcomes go to the standard output, pickled; the end of the input is the end.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys

from mm_fusion.pose.lidar_odometry import LidarOdometry


def main() -> None:
    """Serve until the input ends."""
    # A terminal's interrupt is meant for the node, which then closes the input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no outcome
    odometry = LidarOdometry(pickle.load(source))
    while True:
        try:
            job = pickle.load(source)
        except EOFError:
            return
        pickle.dump(odometry.register(job), sink, pickle.HIGHEST_PROTOCOL)
        sink.flush()


if __name__ == "__main__":
    main()
