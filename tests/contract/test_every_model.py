"""What holds for every published model, applied to whatever lies in the package's zoo; and to a tiny one, so that the rules act."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import histozoo
from histozoo import artifact, durable, registry
from histozoo.errors import HistozooError
from tests.fakes.zoo import as_zoo, edit, make_bundle

EMBEDDED_LIMIT = 25_000_000  # bytes; what the repository and the wheel carry for one model

RELEASED = sorted(path.stem for path in registry.ZOO.glob("*.json"))


def breaches(path: Path) -> list[str]:
    """What is wrong with one entry of a zoo and the files beside it."""
    try:
        entry = registry.read_entry(path)
    except HistozooError as error:
        return [str(error)]
    found = []
    if path.read_text() != durable.to_json(entry.raw):
        found.append("the entry is not spelled as publishing spells it")
    embedded = entry.weights.embedded
    for name, sha256, size in [
        *([(embedded.file, embedded.sha256, embedded.bytes)] if embedded else []),
        *(
            [(f"{entry.name}.golden.safetensors", entry.golden.sha256, entry.golden.bytes)]
            if embedded
            else []
        ),
    ]:
        try:
            artifact.verify(path.with_name(name), sha256, size)
        except HistozooError as error:
            found.append(str(error))
    if embedded and embedded.bytes > EMBEDDED_LIMIT:
        found.append(f"the embedded file has {embedded.bytes:,} bytes")
    if embedded is None and entry.weights.revision is None:
        found.append("neither embedded nor pinned to a commit: nobody can load it")
    return found


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_entry_is_whole(name: str) -> None:
    assert breaches(registry.ZOO / f"{name}.json") == []


@pytest.mark.parametrize(
    "name", [n for n in RELEASED if registry.read_entry(registry.ZOO / f"{n}.json").weights.embedded]
)
def test_a_released_embedded_model_gives_its_golden_features(name: str) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    golden = load_file(registry.ZOO / f"{name}.golden.safetensors")
    with torch.no_grad():
        features_BD = histozoo.load(name, allow_withdrawn=True)(golden["pixels_BCHW"])
    # Bit-equal on the machine that published; 1e-3 of the features' size is what other processors stay within.
    assert (features_BD - golden["features_BD"]).abs().max() <= 1e-3 * golden[
        "features_BD"
    ].square().mean().sqrt()


def test_the_rules_act(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    bundle = make_bundle(tmp_path, embedded=True)
    path = as_zoo(bundle, tmp_path)
    assert any("golden" in text for text in breaches(path)), (
        "golden tensors must travel with an embedded model"
    )
    (tmp_path / f"{bundle.name}.golden.safetensors").write_bytes((bundle / "golden.safetensors").read_bytes())
    assert breaches(path) == []
    weights = tmp_path / f"{bundle.name}.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert any("HZ-A02" in text for text in breaches(path))
    weights.write_bytes(data)
    edit(path, lambda raw: raw["histozoo"]["weights"].update(embedded=None))
    assert breaches(path) == ["neither embedded nor pinned to a commit: nobody can load it"]
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert "the entry is not spelled as publishing spells it" in breaches(path)
    edit(path, lambda raw: raw.pop("architecture"))
    assert any("HZ-A07" in text for text in breaches(path))
