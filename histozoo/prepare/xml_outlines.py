"""Outlines that people drew on slides, in the XML of ASAP and of Aperio ImageScope. Standard library and numpy.

A document type is refused, and with it entities and all they are abused for: neither program writes one.
Legend: N corners of an outline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from histozoo.prepare.sources import malformed

if TYPE_CHECKING:
    from histozoo.prepare.sources import Source


class Outline(NamedTuple):
    """One closed polygon: what it encloses, its corners (x, y) in pixels of the slide, and whether it is cut out of the others."""

    kind: str
    corners_N2: NDArray[np.float64]
    hole: bool = False


@dataclass(eq=False)
class Element:
    """One XML element: its tag, attributes, line in the file and the elements directly in it."""

    tag: str
    attributes: dict[str, str]
    line: int
    inside: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[Element]:
        """Yields the elements of this tag directly in this one."""
        return (one for one in self.inside if one.tag == tag)


def read_xml(data: bytes, name: str, *, root: str) -> Element:
    """Parses an XML file without document type; text between the tags is passed over.

    Raises:
        UsageError: `HZ-U73`, it declares a document type or entities, is not well-formed, or has another root; the line is named.
    """
    if b"<!DOCTYPE" in (plain := data.replace(b"\0", b"")) or b"<!ENTITY" in plain:
        raise malformed("an XML file declares a document type", name, expected="none", got="<!DOCTYPE")
    top = Element("", {}, 0)
    open_elements = [top]
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, parser.CurrentLineNumber)
        open_elements[-1].inside.append(element)
        open_elements.append(element)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: open_elements.pop()
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise malformed(
            "the XML file cannot be read", name, expected="well-formed XML", got=str(error)
        ) from error
    if top.inside[0].tag != root:
        raise malformed(
            "the XML file is of another kind", name, expected=f"<{root}>", got=f"<{top.inside[0].tag}>"
        )
    return top.inside[0]


def asap_xml(source: Source, name: str, *, kinds: Mapping[str, str]) -> tuple[Outline, ...]:
    """Reads outlines drawn in ASAP, as Camelyon has them: Annotation with PartOfGroup, Coordinate with Order, X, Y.

    Args:
        source: Where the file lies.
        name: Its member name.
        kinds: Our word for each group; "" for a group that is not wanted.

    Returns:
        The outlines in the file's order; those of fewer than three corners enclose nothing and are left out.

    Raises:
        UsageError: `HZ-U73`, as `read_xml` says; an unknown group, an annotation that is no outline, a coordinate that is no finite
            number, or corners without a clear order; the line is named.
    """
    outlines = []
    for holder in read_xml(source.read(name), name, root="ASAP_Annotations").all("Annotations"):
        for annotation in holder.all("Annotation"):
            kind = _known(annotation, "PartOfGroup", kinds, name)
            if not kind:
                continue
            if annotation.attributes.get("Type", "Polygon") not in ("Polygon", "Spline", "Rectangle"):
                where, got = f"{name}, line {annotation.line}", annotation.attributes["Type"]
                raise malformed(
                    "an annotation is no outline", where, expected="Polygon, Spline, Rectangle", got=got
                )
            corners = [c for part in annotation.all("Coordinates") for c in part.all("Coordinate")]
            corners.sort(key=lambda corner: _number(corner, "Order", name))
            if len({corner.attributes["Order"] for corner in corners}) < len(corners):
                raise malformed(
                    "two corners have one place", f"{name}, line {annotation.line}", expected="one each"
                )
            if len(corners) >= 3:
                outlines.append(Outline(kind, _corners(corners, name)))
    return tuple(outlines)


def imagescope_xml(
    source: Source, name: str, *, kinds: Mapping[str, str] | None = None
) -> tuple[Outline, ...]:
    """Reads outlines drawn in Aperio ImageScope, as MoNuSeg has them: Annotation, Regions, Region, Vertices, Vertex with X, Y.

    Args:
        source: Where the file lies.
        name: Its member name.
        kinds: Our word for each layer, "" for one that is not wanted; a layer goes by the name of its first attribute that has one
            (as in MoNuSAC), else its Name, else its Id. None keeps the layers' own names.

    Returns:
        The outlines in the file's order; `hole` where NegativeROA is 1; those of fewer than three corners are left out.

    Raises:
        UsageError: `HZ-U73`, as `read_xml` says; an unknown layer, or a coordinate that is no finite number; the line is named.
    """
    outlines = []
    for layer in read_xml(source.read(name), name, root="Annotations").all("Annotation"):
        regions = [region for part in layer.all("Regions") for region in part.all("Region")]
        if not regions:
            continue
        called = _layer(layer)
        if kinds is not None and called not in kinds:
            where = f"{name}, line {layer.line}"
            raise malformed("an unknown layer", where, expected=", ".join(kinds), got=repr(called))
        kind = called if kinds is None else kinds[called]
        for region in regions if kind else ():
            corners = [v for part in region.all("Vertices") for v in part.all("Vertex")]
            if len(corners) >= 3:
                hole = region.attributes.get("NegativeROA", "0") == "1"
                outlines.append(Outline(kind, _corners(corners, name), hole))
    return tuple(outlines)


def _layer(layer: Element) -> str:
    named = [a.attributes.get("Name", "") for part in layer.all("Attributes") for a in part.all("Attribute")]
    given = [*named, layer.attributes.get("Name", ""), layer.attributes.get("Id", "")]
    return next((text.strip() for text in given if text.strip()), "")


def _known(element: Element, attribute: str, kinds: Mapping[str, str], name: str) -> str:
    word = element.attributes.get(attribute, "")
    if word not in kinds:
        where, expected = f"{name}, line {element.line}", f"{attribute} is one of {', '.join(kinds)}"
        raise malformed("an unknown group", where, expected=expected, got=repr(word))
    return kinds[word]


def _corners(elements: list[Element], name: str) -> NDArray[np.float64]:
    return np.array([[_number(one, "X", name), _number(one, "Y", name)] for one in elements])


def _number(element: Element, attribute: str, name: str) -> float:
    text = element.attributes.get(attribute, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        where = f"{name}, line {element.line}"
        raise malformed(
            f"{attribute} of a corner is no finite number", where, expected="a number", got=repr(text)
        )
    return value
