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

    def verdict(self) -> tuple[bytes, str]:
        """Level and message: those of the worst complaints."""
        level = max((level for level, _ in self._complaints), default=OK)
        worst = [text for each, text in self._complaints if each == level]
        return level, "; ".join(worst) or self.message_ok

    def texts(self, node: str) -> tuple[str, str]:
        """Name and hardware id; ``node`` is the name of who reports."""
        return f"{node.lstrip('/')}: {self.name}", node

    def message(self, node: str) -> DiagnosticStatus:
        """As a message; ``node`` is the name of who reports."""
        name, hardware_id = self.texts(node)
        out = DiagnosticStatus(name=name, hardware_id=hardware_id)
        out.level, out.message = self.verdict()
        out.values = [KeyValue(key=k, value=v) for k, v in self.values.items()]
        return out
