"""What is derived from the parameters agrees with them: config/fusion.yaml, the README's table."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import generate_docs
import yaml

from mm_fusion import config, parameters

ROOT = Path(__file__).resolve().parent.parent
YAML = ROOT / "config" / "fusion.yaml"


def test_the_parameter_file_is_the_generated_one() -> None:
    assert YAML.read_text() == generate_docs.yaml_text(), "run: make docs"


def test_the_readme_table_is_the_generated_one() -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme == generate_docs.readme_text(readme), "run: make docs"


def test_the_parameter_file_holds_every_parameter_with_its_default() -> None:
    """Read with plain YAML and compared with the dataclasses, by neither's own writer."""
    tree = yaml.safe_load(YAML.read_text())["/**"]["ros__parameters"]

    def compare(section: object, branch: dict[str, object], path: str) -> None:
        names = {f.name for f in dataclasses.fields(section)}  # type: ignore[arg-type]
        assert set(branch) == names, path
        for name in names:
            default, written = getattr(section, name), branch[name]
            if dataclasses.is_dataclass(default):
                assert isinstance(written, dict)
                compare(default, written, f"{path}{name}.")
            elif isinstance(default, tuple):
                assert written == list(default), f"{path}{name}"
            else:
                assert written == default, f"{path}{name}"
                assert type(written) is type(default), f"{path}{name}"

    compare(config.Config(), tree, "")


def test_the_parameter_file_loads_as_the_defaults() -> None:
    assert config.load(YAML.read_text(), str(YAML), []) == config.Config()


def test_every_parameter_is_described_with_unit_and_range() -> None:
    for p in parameters.describe(config.Config):
        assert len(p.description) >= 5, p.name
        for suffix, unit in (("_s", "s"), ("_m", "m"), ("_hz", "Hz"), ("_rad", "rad")):
            if p.name.endswith(suffix):
                assert p.unit == unit, p.name
        if p.kind in ("int", "float"):
            assert None not in (p.low, p.high), f"{p.name} has no range"


def test_commands_named_in_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    # In running text between backticks, in a block at the start of its line.
    named = set(re.findall(r"(?:`|^\s*\$? ?)make ([a-z]+)", readme, flags=re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= targets
    launch_files = set(re.findall(r"\b(\w+\.launch\.py)\b", readme))
    assert launch_files <= {path.name for path in (ROOT / "launch").iterdir()}


def test_paths_named_in_the_documents_exist() -> None:
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_no_placeholder_is_left_in_the_readme() -> None:
    assert "@@" not in (ROOT / "README.md").read_text()
