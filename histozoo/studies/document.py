"""A report as Markdown and as one HTML file, from the same blocks."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from histozoo.evaluate.compare.page import CSS


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers under a head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """A drawing: the file's name with `.svg` or `.png`, its content, and what it shows in words."""

    file: str
    content: str | bytes
    alt: str


@dataclass(frozen=True)
class Points:
    """Sentences, each a point of a list."""

    sentences: tuple[str, ...]


Block = str | Table | Plot | Points


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; `marked` where models were trained on the lineage that they are scored on."""

    title: str
    blocks: tuple[Block, ...]
    marked: bool = False


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    sections: tuple[Section, ...]

    @property
    def plots(self) -> list[Plot]:
        """Every drawing."""
        return [b for s in self.sections for b in s.blocks if isinstance(b, Plot)]


def markdown(document: Document) -> str:
    """Returns the report for a repository; plots are files beside it."""
    parts = [f"# {document.title}"]
    for section in document.sections:
        parts.append(f"## {section.title}")
        parts += [_markdown(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Table):
        lines = [block.head, ("---",) * len(block.head), *block.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
    if isinstance(block, Plot):
        return f"![{block.alt}]({block.file})"
    if isinstance(block, Points):
        return "\n".join(f"- {s}" for s in block.sentences)
    return block


def html(document: Document) -> str:
    """Returns the report as one page that loads nothing."""
    body = "".join(_section(section) for section in document.sections)
    title = escape(document.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{CSS}{_CSS}</style></head>'
        f"<body><main><h1>{title}</h1>{body}</main></body></html>\n"
    )


_CSS = "ul { margin: 6px 0; padding-left: 22px; max-width: 84ch } li { margin: 5px 0 } section.marked { border-left: 5px solid #D55E00 }\n"


def _section(section: Section) -> str:
    kind = " class='marked'" if section.marked else ""
    return f"<section{kind}><h2>{escape(section.title)}</h2>{''.join(map(_html, section.blocks))}</section>"


def _html(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Plot):
        return block.content if isinstance(block.content, str) else _image(block)
    if isinstance(block, Points):
        return f"<ul>{''.join(f'<li>{_inline(s)}</li>' for s in block.sentences)}</ul>"
    return f"<p>{_inline(block)}</p>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(word)}</th>" for word in table.head)
    rows = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in table.rows)
    return f"<div class='scroll'><table><tr>{head}</tr>{rows}</table></div>"


def _cells(row: Sequence[str]) -> list[str]:
    return [f"<td{' class=n' if _is_number(cell) else ''}>{escape(cell)}</td>" for cell in row]


def _is_number(cell: str) -> bool:
    """Whether a cell begins with a number, to be kept on one line at the right."""
    return cell.lstrip("+-")[:1].isdigit() and not any(letter.isalpha() for letter in cell)


def _image(plot: Plot) -> str:
    assert isinstance(plot.content, bytes)
    data = base64.b64encode(plot.content).decode()
    return f'<img style="max-width:100%" alt="{escape(plot.alt)}" src="data:image/png;base64,{data}">'


def _inline(text: str) -> str:
    """Returns text with `code` between backticks as such."""
    parts = text.split("`")
    return "".join(f"<code>{escape(p)}</code>" if i % 2 else escape(p) for i, p in enumerate(parts))
