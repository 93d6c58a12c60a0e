"""What a process of ours sets for itself before its first node; whatever the user has set stays.

Memory: an image of some megabytes is above the size from which glibc maps memory anew and unmaps
it at its end. Every page of it then costs a fault, and all of them more than copying the image
does. What the MALLOC_* variables do for a process that somebody else starts, mallopt does for the
one that runs.

Transport: Fast DDS reads its profiles when the first node is made, from the file that an
environment variable names. A node that was started without a launch file gets ours that way.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions

from mm_fusion import resources

# The environment variable, the parameter's number in glibc's malloc.h, the value.
MALLOC = (
    ("MALLOC_MMAP_THRESHOLD_", -3, 32 << 20),  # the largest that glibc takes
    ("MALLOC_TRIM_THRESHOLD_", -1, 512 << 20),
    ("MALLOC_TOP_PAD_", -2, 64 << 20),
)
PROFILE = "config/fastdds.xml"
PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
# Where Fast DDS 2 and 3 look for profiles: these variables first, then these files.
PROFILE_VARIABLES = (PROFILE_VARIABLE, "FASTDDS_DEFAULT_PROFILES_FILE")
PROFILE_FILES = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")


def begin(args: Sequence[str] | None = None) -> None:
    """Prepare this process and initialize rclpy, which leaves the signals to us."""
    keep_memory()
    use_profile()
    rclpy.init(
        args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO
    )


def keep_memory() -> bool:
    """Keep memory for the next message. False where the C library cannot be told so."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    refused = [
        name
        for name, number, value in MALLOC
        if name not in os.environ and not mallopt(number, value)
    ]
    return not refused


def settle() -> None:
    """Leave out of every further garbage collection what is there now: modules, the network, the
    node. Looking through all of it takes some 35 ms, in which no other thread runs."""
    gc.collect()
    gc.freeze()


def use_profile() -> bool:
    """Name our Fast DDS profile, unless the user has one."""
    given = any(os.environ.get(name) for name in PROFILE_VARIABLES)
    if given or any(Path(name).is_file() for name in PROFILE_FILES):
        return False
    os.environ[PROFILE_VARIABLE] = str(resources.share_path(PROFILE))
    return True
