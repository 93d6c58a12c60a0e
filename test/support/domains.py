"""ROS domains for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mm_fusion.cli.domains import DOMAINS, leased_domain

_used: list[int] = []


@contextmanager
def own_domain() -> Iterator[int]:
    """A domain that nobody else uses meanwhile; one that this run used before only when all were:
    who was there is then long forgotten."""
    fresh = sorted(set(DOMAINS) - set(_used), key=lambda d: (d * 37 + os.getpid()) % len(DOMAINS))
    with leased_domain([*fresh, *_used]) as domain:
        if domain in _used:
            _used.remove(domain)
        _used.append(domain)
        yield domain
