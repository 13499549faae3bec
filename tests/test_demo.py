"""The demo: features, a picture and a page, from tiles that the repository ships."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from histozoo import demo, feature_files
from histozoo.errors import RejectedInputs, ResourceError, UsageError
from tests.fakes.tiny import NAME, draw_tiles, tiny_zoo


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOZOO_ZOO", str(tiny_zoo() / "zoo"))


def test_the_shipped_tiles_become_features_a_picture_and_a_page(tmp_path: Path) -> None:
    shown = demo.run(tmp_path, model=NAME)
    features = feature_files.read(shown.features)
    assert features.features_ND.shape == (16, shown.feature_dim)
    with Image.open(shown.picture) as picture:
        assert picture.format == "PNG" and min(picture.size) > 500
        assert (
            len(picture.convert("RGB").getcolors(maxcolors=1 << 24) or []) > 10_000
        )  # photographs, not a blank page
    page = shown.page.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 16
    assert page.count("<section>") == 16 and page.count("<figure") == 16 * (1 + demo.NEIGHBOURS)
    assert not re.search(r"(src|href)=|https?://", page), "the page is to need nothing beside itself"
    assert any("16 tiles" in line for line in shown.lines())


def test_running_it_again_gives_the_same_files(tmp_path: Path) -> None:
    first = demo.run(tmp_path, model=NAME)
    before = [p.read_bytes() for p in (first.features, first.picture, first.page)]
    again = demo.run(tmp_path, model=NAME)
    assert again.report.n_reused == 0
    assert [p.read_bytes() for p in (again.features, again.picture, again.page)] == before


def test_the_default_model_is_the_first_embedded_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from histozoo import registry

    monkeypatch.setattr(registry, "ZOO", tiny_zoo() / "zoo")
    monkeypatch.delenv("HISTOZOO_ZOO")
    assert demo.embedded_model() == NAME
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    with pytest.raises(UsageError, match=r"HZ-U67 no model [\s\S]*--model NAME"):
        demo.embedded_model()


def test_tile_names_are_escaped_in_the_page(tmp_path: Path) -> None:
    tiles = draw_tiles(tmp_path / "tiles", ["<b>&\"'.png", "two.png", "three.png"])
    page = demo.run(tmp_path / "out", tiles=tiles, model=NAME).page.read_text(encoding="utf-8")
    assert "<b>" not in page and "&lt;b&gt;&amp;&quot;&#x27;.png" in page


def test_an_unreadable_tile_is_an_error_not_a_gap(tmp_path: Path) -> None:
    tiles = draw_tiles(tmp_path / "tiles", ["one.png", "two.png"])
    (tiles / "three.png").write_bytes(b"no image")
    with pytest.raises(RejectedInputs, match=r"three\.png"):
        demo.run(tmp_path / "out", tiles=tiles, model=NAME)


def test_neighbours_are_those_of_the_closed_form() -> None:
    f_ND = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    order, similarity = demo.neighbours(f_ND, k=4)
    c_ND = f_ND - f_ND.mean(0)
    for i in range(12):
        cosine = [
            float(c_ND[i] @ c_ND[j] / np.linalg.norm(c_ND[i]) / np.linalg.norm(c_ND[j])) for j in range(12)
        ]
        expected = sorted((j for j in range(12) if j != i), key=lambda j: -cosine[j])[:4]
        assert order[i].tolist() == expected
        assert similarity[i] == pytest.approx([cosine[j] for j in expected], abs=1e-5)
    assert demo.neighbours(f_ND[:3], k=9)[0].shape == (3, 2)


def test_example_tiles_are_small_and_say_where_they_come_from() -> None:
    folder = demo.example_tiles()
    tiles = sorted(folder.glob("*.jpg"))
    assert len(tiles) == 16
    assert sum(p.stat().st_size for p in tiles) < 2_000_000
    source = (folder / "SOURCE.md").read_text(encoding="utf-8")
    assert all(word in source for word in ("CC0 1.0", "BBBC038", "Caicedo", "commit"))


def test_a_file_in_the_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            ResourceError, match="HZ-F42 cannot write: a file stands where a folder is needed"
        ):
            demo.run(out, model=NAME)
    assert (tmp_path / "file").read_text() == "mine"
