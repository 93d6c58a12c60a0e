"""Message classes by the name of their type."""

from __future__ import annotations

import importlib

from mm_fusion.errors import ConfigError


def message_class(type_name: str) -> type:
    """The Python class of ``package/msg/Name``.

    Raises ConfigError where its package is not installed.
    """
    package, _, rest = type_name.partition("/")
    name = rest.rpartition("/")[2]
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{type_name}: no such message type is installed") from error
