"""The HTML of the report: one file, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

CSS = """
:root{--ink:#1a1f26;--soft:#5b6570;--line:#e3e7eb;--blue:#0072B2;--plate:#f6f8fa}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;
 color:var(--ink);margin:0;background:#fff}
main{max-width:1120px;margin:0 auto;padding:28px 24px 64px}
h1{font-size:25px;margin:0 0 2px;letter-spacing:-.01em}
h2{font-size:18px;margin:40px 0 10px;padding-top:14px;border-top:1px solid var(--line)}
p.note,figcaption,.soft{color:var(--soft);font-size:13px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;
 margin:22px 0 4px}
.card{background:var(--plate);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:23px;font-weight:650;letter-spacing:-.01em}
.card span{color:var(--soft);font-size:12.5px;display:block}
figure{margin:14px 0}
figure img{max-width:100%;height:auto;display:block;border-radius:4px}
.two{display:grid;grid-template-columns:1fr 1fr;gap:18px;align-items:start}
@media(max-width:760px){.two{grid-template-columns:1fr}}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13.5px;margin:10px 0;width:100%}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--line);
 vertical-align:top}
th{font-weight:600;color:var(--soft);white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr.strong td{font-weight:650}
code{font:12.5px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
details{margin:10px 0}summary{cursor:pointer;color:var(--blue)}
.warn{background:#fff7e6;border:1px solid #f0d9a8;border-radius:6px;padding:8px 12px;margin:8px 0;
 font-size:13.5px}
"""


def text(value: object) -> str:
    """A value as safe HTML text; what is not known is a dash."""
    return "–" if value is None else html.escape(str(value))


def number(value: float | None, digits: int = 3, unit: str = "") -> str:
    """A number in fixed digits, a dash where it is not known."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}{' ' + unit if unit else ''}"


def section(title: str, *parts: str) -> str:
    """A part of the page; empty where nothing is in it."""
    body = "\n".join(p for p in parts if p)
    return f"<section><h2>{text(title)}</h2>\n{body}\n</section>\n" if body else ""


def note(words: str) -> str:
    """A sentence under a heading."""
    return f'<p class="note">{text(words)}</p>'


def warning(words: str) -> str:
    """A sentence that must be seen."""
    return f'<div class="warn">{text(words)}</div>'


def picture(png: bytes, caption: str, alt: str) -> str:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def beside(*parts: str) -> str:
    """Two things next to each other where the page is wide enough."""
    return f'<div class="two">{"".join(f"<div>{p}</div>" for p in parts)}</div>'


def cards(entries: Iterable[tuple[str, str, str]]) -> str:
    """The key figures: (value, name, remark)."""
    out = []
    for value, name, remark in entries:
        small = f"<span>{text(remark)}</span>" if remark else ""
        out.append(f'<div class="card"><span>{text(name)}</span><b>{text(value)}</b>{small}</div>')
    return f'<div class="cards">{"".join(out)}</div>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], numeric: Sequence[int] = ()
) -> str:
    """A table; the columns in ``numeric`` are set to the right. "" without rows."""
    body = []
    for row in rows:
        cells = "".join(
            f'<td class="n">{text(c)}</td>' if i in numeric else f"<td>{text(c)}</td>"
            for i, c in enumerate(row)
        )
        body.append(f"<tr>{cells}</tr>")
    if not body:
        return ""
    titles = "".join(
        f'<th class="n">{text(h)}</th>' if i in numeric else f"<th>{text(h)}</th>"
        for i, h in enumerate(head)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def folded(title: str, content: str) -> str:
    """Something the reader opens if it is wanted."""
    return f"<details><summary>{text(title)}</summary>{content}</details>"


def values(entries: Mapping[str, Any]) -> str:
    """Names and values."""
    rows = "".join(
        f"<tr><td><code>{text(k)}</code></td><td><code>{text(v)}</code></td></tr>"
        for k, v in entries.items()
    )
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>' if rows else ""


def page(title: str, subtitle: str, body: str) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{CSS}</style></head>\n"
        f'<body><main><h1>{text(title)}</h1><p class="soft">{text(subtitle)}</p>\n'
        f"{body}</main></body></html>\n"
    )
