"""What a node's process does not have: threads that burn time between two matrix products."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.live import ROOT

SCRIPT = """
import importlib, os
importlib.import_module("{module}")
before = len(os.listdir("/proc/self/task"))
import numpy as np
a = np.ones((1000, 1000), np.float32)
a @ a
print(len(os.listdir("/proc/self/task")) - before)
"""


def helpers(module: str) -> int:
    """Threads that numpy brings into a process that imported a module."""
    environ = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(module=module)],
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ran.stdout)


def test_numpy_has_no_helper_threads_in_a_node() -> None:
    """GIVEN several cores WHEN a node's process multiplies matrices THEN one thread does it."""
    if not os.path.isdir("/proc/self/task") or helpers("mm_fusion") == 0:
        pytest.skip("numpy makes no helper threads on this machine")
    assert helpers("mm_fusion.nodes") == 0
