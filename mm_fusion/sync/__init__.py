"""The synchronizer."""

from mm_fusion.sync.synchronizer import Answers, Synchronizer

__all__ = ["Answers", "Synchronizer"]
