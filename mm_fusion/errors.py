"""Errors a user can cause: each message names the input and the rule it broke."""

from __future__ import annotations


class MmFusionError(Exception):
    """Base of every error that ends as one clear line instead of a traceback."""


class ConfigError(MmFusionError):
    """A parameter has a wrong name, type or value."""


class ContractError(MmFusionError):
    """A network file and its contract do not fit each other or this program."""


class CalibrationError(MmFusionError):
    """An intrinsic or extrinsic calibration is missing or impossible."""


class BagError(MmFusionError):
    """A bag cannot be read, or lacks what was asked of it."""


class StageError(MmFusionError):
    """A stage of a longer job produced nothing."""
