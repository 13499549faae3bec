"""Outlines in XML: corners in their order, words of their groups; what is malformed is refused with its line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from histozoo.prepare.annotations import Outline, asap_xml, imagescope_xml
from histozoo.prepare.sources import Source
from tests.test_annotations import holding, refused

ASAP = """<?xml version="1.0"?>
<ASAP_Annotations>
  <Annotations>
    <Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58">
      <Coordinates>
        <Coordinate Order="1" X="10.5" Y="20" />
        <Coordinate Order="0" X="1" Y="2" />
        <Coordinate Order="10" X="5" Y="6" />
        <Coordinate Order="2" X="3e1" Y="40" />
      </Coordinates>
    </Annotation>
    <Annotation Name="Annotation 1" Type="Spline" PartOfGroup="_2" Color="#F4FA58">
      <Coordinates><Coordinate Order="0" X="1" Y="1" /><Coordinate Order="1" X="2" Y="1" />
        <Coordinate Order="2" X="2" Y="2" /></Coordinates>
    </Annotation>
    <Annotation Name="Annotation 2" Type="Dot" PartOfGroup="None" Color="#F4FA58">
      <Coordinates><Coordinate Order="0" X="1" Y="1" /></Coordinates>
    </Annotation>
    <Annotation Name="Annotation 3" Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58">
      <Coordinates><Coordinate Order="0" X="1" Y="1" /><Coordinate Order="1" X="2" Y="1" /></Coordinates>
    </Annotation>
  </Annotations>
  <AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#00ff00"><Attributes /></Group></AnnotationGroups>
</ASAP_Annotations>
"""
KINDS = {"Tumor": "tumour", "_2": "hole", "None": ""}

SCOPE = """<Annotations MicronsPerPixel="0.252000">
  <Annotation Id="1" Name="" ReadOnly="0">
    <Attributes><Attribute Name="Epithelial" Id="0" Value="" /></Attributes>
    <Regions>
      <RegionAttributeHeaders><AttributeHeader Id="9999" Name="Region" /></RegionAttributeHeaders>
      <Region Id="1" Type="0" NegativeROA="0"><Vertices>
        <Vertex X="1" Y="2" Z="0" /><Vertex X="30.5" Y="4" Z="0" /><Vertex X="5" Y="60" Z="0" />
      </Vertices></Region>
      <Region Id="2" Type="0" NegativeROA="1"><Vertices>
        <Vertex X="1" Y="2" /><Vertex X="3" Y="4" /><Vertex X="5" Y="6" />
      </Vertices></Region>
    </Regions>
    <Plots />
  </Annotation>
  <Annotation Id="2" Name="Muscle"><Regions><Region Id="1"><Vertices>
    <Vertex X="1" Y="2" /><Vertex X="3" Y="4" /><Vertex X="5" Y="6" /></Vertices></Region></Regions></Annotation>
  <Annotation Id="3" Name="Empty"><Regions /></Annotation>
</Annotations>
"""
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'


def same(found: tuple[Outline, ...], expected: list[tuple[str, list[list[float]], bool]]) -> bool:
    return [(o.kind, o.corners_N2.tolist(), o.hole) for o in found] == expected


def test_asap_outlines_come_in_their_own_order_of_corners(tmp_path: Path) -> None:
    found = asap_xml(holding(tmp_path, x_xml=ASAP), "x.xml", kinds=KINDS)
    tumour = [[1.0, 2.0], [10.5, 20.0], [30.0, 40.0], [5.0, 6.0]]
    assert same(found, [("tumour", tumour, False), ("hole", [[1.0, 1.0], [2.0, 1.0], [2.0, 2.0]], False)])


def test_imagescope_outlines_have_the_word_of_their_layer(tmp_path: Path) -> None:
    source = holding(tmp_path, x_xml=SCOPE)
    triangle = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    first = [[1.0, 2.0], [30.5, 4.0], [5.0, 60.0]]
    expected = [("Epithelial", first, False), ("Epithelial", triangle, True), ("Muscle", triangle, False)]
    assert same(imagescope_xml(source, "x.xml"), expected)
    found = imagescope_xml(source, "x.xml", kinds={"Epithelial": "", "Muscle": "m"})
    assert same(found, [("m", triangle, False)])
    nameless = SCOPE.replace('Name="Epithelial"', 'Name=""')
    assert imagescope_xml(holding(tmp_path, y_xml=nameless), "y.xml")[0].kind == "1"


def asap(source: Source) -> Any:
    return asap_xml(source, "x.xml", kinds=KINDS)


def scope(source: Source) -> Any:
    return imagescope_xml(source, "x.xml", kinds={"Epithelial": "e", "Muscle": "m"})


@pytest.mark.parametrize(
    ("read", "text", "where", "got"),
    [
        (asap, ASAP.replace('X="10.5"', 'X="nan"'), "x.xml, line 6", "'nan'"),
        (asap, ASAP.replace('X="10.5"', 'X="10,5"'), "x.xml, line 6", "'10,5'"),
        (asap, ASAP.replace(' Y="40"', ""), "x.xml, line 9", "''"),
        (asap, ASAP.replace('Order="10"', 'Order="ten"'), "x.xml, line 8", "'ten'"),
        (asap, ASAP.replace('Order="10"', 'Order="1"'), "x.xml, line 4", ""),
        (asap, ASAP.replace('PartOfGroup="_2"', 'PartOfGroup="_3"'), "x.xml, line 12", "'_3'"),
        (asap, ASAP.replace('Type="Spline"', 'Type="Dot"'), "x.xml, line 12", "Dot"),
        (asap, ASAP[:700], "x.xml", "line"),
        (asap, ASAP.replace("</Coordinates>", "", 1), "x.xml", "mismatched tag: line"),
        (asap, SCOPE, "x.xml", "<Annotations>"),
        (asap, "", "x.xml", "no element found"),
        (asap, "not xml", "x.xml", "syntax error"),
        (asap, ASAP.replace('"1.0"', '"1.0" encoding="no-such"'), "x.xml", "encoding"),
        (scope, SCOPE.replace('X="30.5"', 'X="inf"'), "x.xml, line 7", "'inf'"),
        (scope, SCOPE.replace('Name="Muscle"', 'Name="Bone"'), "x.xml, line 15", "'Bone'"),
        (scope, ASAP, "x.xml", "<ASAP_Annotations>"),
    ],
)
def test_malformed_xml_is_refused_with_its_line(
    tmp_path: Path, read: Callable[[Source], Any], text: str, where: str, got: str
) -> None:
    assert text not in (ASAP,) or read is scope
    source = holding(tmp_path, x_xml=text)
    error = refused(lambda: read(source))
    assert error.where == where and got in error.got


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_a_document_type_is_refused_before_an_entity_is_expanded(tmp_path: Path, encoding: str) -> None:
    text = ASAP.replace('<?xml version="1.0"?>', LAUGHS).replace("#F4FA58", "&b;")
    source = holding(tmp_path, x_xml=text.encode(encoding))
    assert "document type" in refused(lambda: asap(source)).what


def test_a_large_file_of_outlines_is_read_in_seconds(tmp_path: Path) -> None:
    corners = "".join(f'<Coordinate Order="{i}" X="{i}" Y="{i % 7}" />' for i in range(50_000))
    text = f'<ASAP_Annotations><Annotations><Annotation PartOfGroup="Tumor"><Coordinates>{corners}'
    text += "</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    start = time.process_time()
    (found,) = asap(holding(tmp_path, x_xml=text))
    assert found.corners_N2.shape == (50_000, 2) and time.process_time() - start < 10
