"""Folders of other data sets, made here."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.kitti import make_folder


@pytest.fixture
def kitti_folder(tmp_path: Path) -> Path:
    """One frame in KITTI's layout, written by hand."""
    return make_folder(tmp_path)
