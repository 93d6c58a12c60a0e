"""Where the package's own files are: models, parameters, launch files."""

from __future__ import annotations

import sys
from pathlib import Path

from mm_fusion.errors import MmFusionError

_PACKAGE = Path(__file__).resolve().parent


def _roots() -> list[Path]:
    """Folders that may hold the shared files, the likeliest first."""
    roots = []
    checkout = _PACKAGE.parent
    if (checkout / "package.xml").is_file():
        roots.append(checkout)
    # An installation has <prefix>/lib/python3.X/site-packages/mm_fusion, or Debian's
    # <prefix>/local/lib/python3.X/dist-packages; the shared files are below the same prefix.
    roots += [parent / "share" / "mm_fusion" for parent in list(_PACKAGE.parents)[:6]]
    roots.append(Path(sys.prefix) / "share" / "mm_fusion")
    return roots


def share_path(name: str) -> Path:
    """The path of a file or folder of the package, such as ``models/fusion.onnx``.

    It is taken from the source checkout, or from share/mm_fusion of the installation.
    Raises MmFusionError, naming what is missing, where neither has it.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise MmFusionError(f"{name}: must be a path inside the package's shared files")
    for root in _roots():
        if (root / name).exists():
            return root / name
    raise MmFusionError(f"{name}: not among the package's files (looked in {_roots()[0]})")
