"""What a node says about itself, as diagnostic_msgs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

OK = DiagnosticStatus.OK
WARN = DiagnosticStatus.WARN
ERROR = DiagnosticStatus.ERROR


@dataclass(slots=True)
class Report:
    """One diagnostic status in the making: the worst complaint decides level and message."""

    name: str
    message_ok: str = "ok"
    values: dict[str, str] = field(default_factory=dict)
    _complaints: list[tuple[bytes, str]] = field(default_factory=list)

    def put(self, key: str, value: object) -> None:
        """One key and value; floats with four significant digits."""
        self.values[key] = f"{value:.4g}" if isinstance(value, float) else str(value)

    def put_all(self, prefix: str, values: Mapping[str, object]) -> None:
        """Keys under a common prefix."""
        for key, value in values.items():
            self.put(f"{prefix}.{key}", value)

    def warn(self, text: str) -> None:
        """Something is not as it should be, and the outputs still come."""
        self._complaints.append((WARN, text))

    def error(self, text: str) -> None:
        """An output does not come."""
        self._complaints.append((ERROR, text))

    def message(self, node: str) -> DiagnosticStatus:
        """As a message; ``node`` is the name of who reports."""
        out = DiagnosticStatus(name=f"{node.lstrip('/')}: {self.name}", hardware_id=node)
        out.level = max((level for level, _ in self._complaints), default=OK)
        worst = [text for level, text in self._complaints if level == out.level]
        out.message = "; ".join(worst) or self.message_ok
        out.values = [KeyValue(key=k, value=v) for k, v in self.values.items()]
        return out
