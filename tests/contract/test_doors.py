"""Six doors, one tensor: every embedded model of the zoo and three tiny ones, through each door in a process of its own.

Each process gets tiles, makes pixels as its door does, and compares pixels and features bit for bit: for tiny models, published here, with
the published golden tensors; for an embedded model, published on another machine, with what stock timm computes on this one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from histozoo import artifact, registry
from histozoo.errors import UsageError
from tests.fakes.github import GitHub
from tests.fakes.hub import Hub
from tests.fakes.zoo import as_zoo, make_bundle

pytest.importorskip("timm")

TINY = ("test_resnet", "test_vit", "test_convnext")
ROOT = Path(__file__).resolve().parents[2]

COMMON = """
import json, sys
jobs = json.loads(sys.argv[1])
found = {}
def judge(name, door, model, transform):
    import torch
    from PIL import Image
    from safetensors.torch import load_file
    golden = load_file(jobs[name]["golden"])
    tiles = [Image.fromarray(tile.numpy()) for tile in golden["tiles_BHWC"]]
    pixels = torch.stack([transform(tile) for tile in tiles])
    with torch.no_grad():
        features = model(golden["pixels_BCHW"])
    equal = torch.equal(pixels, golden["pixels_BCHW"]), torch.equal(features, golden["features_BD"])
    found[f"{name} {door}"] = [*equal, list(features.shape), str(features.dtype)]
"""

LOAD = """
import histozoo
for name in jobs:
    judge(name, "histozoo.load", histozoo.load(name), histozoo.preprocess(name))
    judge(name, "bundle folder", histozoo.load(jobs[name]["bundle"]), histozoo.preprocess(jobs[name]["bundle"]))
"""

TORCH_HUB = """
import sys, torch
sys.path[:] = [p for p in sys.path if p not in ("", jobs[next(iter(jobs))]["root"])]
assert "histozoo" not in sys.modules
for name in jobs:
    for spelling in (name, name.replace(".", "_")):
        model = torch.hub.load(jobs[name]["root"], spelling, source="local")
        import histozoo
        judge(name, f"torch.hub {spelling}", model, histozoo.preprocess(name))
"""

TIMM = """
def by_timm(name, door, spelled):
    import timm
    model = timm.create_model(spelled, pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    judge(name, door, model, timm.data.create_transform(**config, is_training=False))
"""

HISTOZOO_FIRST = """
import histozoo, timm
for name in jobs:
    by_timm(name, "timm after histozoo", name)
"""

STOCK_THEN_HISTOZOO = """
import timm
for name, job in jobs.items():
    by_timm(name, "local-dir", "local-dir:" + job["bundle"])
    by_timm(name, "hf-hub", f"hf-hub:histozoo/{name}@{job['commit']}")
assert "histozoo" not in sys.modules
import histozoo
for name in jobs:
    by_timm(name, "timm before histozoo", name)
"""

TRANSFORMERS = """
import torch
from transformers import AutoImageProcessor, AutoModel
for name, job in jobs.items():
    for door, at, options in (("folder", job["bundle"], {}), ("Hub", f"histozoo/{name}", {"revision": job["commit"]})):
        model = AutoModel.from_pretrained(at, **options).eval()
        processor = AutoImageProcessor.from_pretrained(at, **options)
        assert model.config.histozoo["name"] == name
        pixels = lambda tile: processor(tile, return_tensors="pt")["pixel_values"][0]
        judge(name, f"transformers {door}", lambda x: model(x).pooler_output, pixels)
assert "histozoo" not in sys.modules
"""

DOORS = {
    "histozoo.load": (LOAD, {"histozoo.load", "bundle folder"}),
    "torch.hub": (TORCH_HUB, {"torch.hub"}),
    "timm, histozoo first": (TIMM + HISTOZOO_FIRST, {"timm after histozoo"}),
    "timm, stock and timm first": (
        TIMM + STOCK_THEN_HISTOZOO,
        {"local-dir", "hf-hub", "timm before histozoo"},
    ),
    "transformers": (TRANSFORMERS, {"transformers folder", "transformers Hub"}),
}


def embedded_entries() -> list[registry.Entry]:
    """The models that travel with the package."""
    entries = [registry.read_entry(path) for path in sorted(registry.ZOO.glob("*.json"))]
    return [e for e in entries if e.weights.embedded and e.path.with_name(e.weights.embedded.file).is_file()]


def rebuilt(entry: registry.Entry, folder: Path) -> Path:
    """The bundle of an embedded model, made again from the embedded file: to the last byte the one that was published."""
    from safetensors.torch import load_file

    assert entry.weights.embedded is not None
    half = load_file(entry.path.with_name(entry.weights.embedded.file))
    full = {k: v.float() if v.is_floating_point() else v for k, v in half.items()}
    bundle = folder / entry.name
    told = artifact.weights_metadata(entry.raw)
    assert artifact.save_canonical(full, bundle / "model.safetensors", told) == entry.weights.sha256
    shutil.copy(entry.path, bundle / "config.json")
    shutil.copy(entry.path.with_name(f"{entry.name}.golden.safetensors"), bundle / "golden.safetensors")
    return bundle


HERE = """
import sys, timm, torch
from safetensors.torch import load_file, save_file
bundle, target = sys.argv[1:]
golden = load_file(bundle + "/golden.safetensors")
with torch.no_grad():
    features = timm.create_model("local-dir:" + bundle, pretrained=True).eval()(golden["pixels_BCHW"])
published = golden["features_BD"]
assert (features - published).abs().max() <= 1e-3 * published.square().mean().sqrt(), "not the published features"
save_file(golden | {"features_BD": features}, target)
assert "histozoo" not in sys.modules
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> bundle folder. The tiny models' zoo lies two folders above; the first has an embedded file."""
    folder = tmp_path_factory.mktemp("doors")
    made = {}
    for seed, arch in enumerate(TINY):
        bundle = make_bundle(folder / "dist", "multitask_tiny", arch, seed=seed, embedded=seed == 0)
        made[bundle.name] = bundle
    shutil.move(next((folder / "dist").glob("*.safetensors")), folder)
    return made | {entry.name: rebuilt(entry, folder / "dist") for entry in embedded_entries()}


def computed_here(bundle: Path, fresh_python: Any) -> Path:
    """The golden tensors with the features as this machine computes them: other processors round otherwise."""
    target = bundle.with_name(f"{bundle.name}.here")
    if not target.exists():
        fresh_python(HERE, str(bundle), str(target))
    return target


@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_published_bits(
    door: str, bundles: dict[str, Path], hub: Hub, fresh_python: Any
) -> None:
    zoo = next(iter(bundles.values())).parents[1]
    jobs = {}
    for name, bundle in bundles.items():
        commit = hub.add_folder(f"histozoo/{name}", bundle)
        jobs[name] = {
            "bundle": str(bundle),
            "golden": str(bundle / "golden.safetensors"),
            "commit": commit,
            "root": str(ROOT),
        }
        if name.startswith("test_"):
            as_zoo(bundle, zoo, revision=commit)
        else:
            jobs[name]["golden"] = str(computed_here(bundle, fresh_python))
    code, doors = DOORS[door]
    done = fresh_python(
        COMMON + code + "\nprint(json.dumps(found))", json.dumps(jobs), env={"HISTOZOO_ZOO": str(zoo)}
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert {key.split(" ")[0] for key in found} == set(bundles)
    assert {key.split(" ", 1)[1].split(" test_")[0] for key in found} >= doors or door == "torch.hub"
    wrong = {
        key: value for key, value in found.items() if value[:2] != [True, True] or value[3] != "torch.float32"
    }
    assert not wrong, "not bit-equal: [pixels, features, shape, dtype]"


def test_c22_torch_hub_without_a_dependency_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    import torch

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "timm" else real(name, *a)
    )
    with pytest.raises(RuntimeError, match=r"Missing dependencies: timm"):
        torch.hub.load(str(ROOT), "anything", source="local")


FROM_GITHUB = """
import torch
sys.path[:] = [p for p in sys.path if p not in ("", jobs[next(iter(jobs))]["root"])]
for name in jobs:
    model = torch.hub.load("histozoo/histozoo:v1", name.replace(".", "_"), trust_repo=True)
    import histozoo
    assert torch.hub.get_dir() in histozoo.__file__, histozoo.__file__
    judge(name, "GitHub", model, histozoo.preprocess(name))
torch.hub.urlopen = None  # from here on GitHub cannot be reached
again = torch.hub.load("histozoo/histozoo:v1", name, trust_repo=True, num_classes=3)
assert again.num_classes == 3
print(json.dumps(found))
"""


def test_c22_torch_hub_from_github_and_then_offline(
    bundles: dict[str, Path], hub: Hub, fresh_python: Any, tmp_path: Path
) -> None:
    name = "test_resnet.multitask_tiny"
    bundle = bundles[name]
    clone = tmp_path / "clone"
    shutil.copytree(
        ROOT / "histozoo", clone / "histozoo", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
    )
    shutil.copy(ROOT / "hubconf.py", clone)
    as_zoo(bundle, clone / "histozoo" / "zoo", revision=hub.add_folder(f"histozoo/{name}", bundle))
    job = {name: {"golden": str(bundle / "golden.safetensors"), "root": str(ROOT)}}
    with GitHub() as github:
        github.add("histozoo/histozoo", clone, ref="v1")
        env = {"HISTOZOO_ZOO": None}
        done = fresh_python(
            COMMON + github.redirected() + FROM_GITHUB, json.dumps(job), env=env, cwd=tmp_path
        )
        assert "/histozoo/histozoo/zipball/v1" in github.log
    assert json.loads(done.stdout.splitlines()[-1])[f"{name} GitHub"][:2] == [True, True]
    assert hub.requests(r"GET .*model\.safetensors"), (
        "the weights come from the Hub, verified, and not with the clone"
    )


def test_hubconf_is_the_registry(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    import hubconf

    zoo = next(iter(bundles.values())).parents[1]
    for name, bundle in bundles.items():
        if name.startswith("test_"):
            as_zoo(bundle, zoo)
    monkeypatch.setenv("HISTOZOO_ZOO", str(zoo))
    doors = importlib.reload(hubconf)
    public = {name for name, value in vars(doors).items() if callable(value) and not name.startswith("_")}
    assert public == {spelling for name in registry.names() for spelling in (name, name.replace(".", "_"))}
    assert doors.dependencies == ["torch", "timm", "safetensors", "huggingface_hub", "PIL", "numpy"]
    door = doors.test_resnet_multitask_tiny
    assert "test_resnet.multitask_tiny" in door.__doc__ and door.__name__ == "test_resnet_multitask_tiny"
    model = door(pretrained=True, source=bundles["test_resnet.multitask_tiny"], num_classes=2)
    assert model.num_classes == 2
    assert door(pretrained=False).num_classes == 0


def test_hubconf_says_when_another_histozoo_is_used(tmp_path: Path, fresh_python: Any) -> None:
    shutil.copy(ROOT / "hubconf.py", tmp_path)
    code = "import warnings, sys; warnings.simplefilter('error'); sys.path.insert(0, sys.argv[1]); import hubconf"
    done = fresh_python(
        code, str(tmp_path), cwd=tmp_path, ok=False, env={"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    )
    assert f"using histozoo as imported from {ROOT}, not the one in {tmp_path}" in done.stderr


def test_c19_torch_hub_answers_a_wrong_name_with_the_nearest(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    zoo = next(iter(bundles.values())).parents[1]
    for name, bundle in bundles.items():
        if name.startswith("test_"):
            as_zoo(bundle, zoo)
    monkeypatch.setenv("HISTOZOO_ZOO", str(zoo))
    for wrong in ("test_resnet.multitask_tinny", "test_resnet_multitask_tinny"):
        near = rf"(?s)HZ-C19 .*{wrong}.*nearest of .*test_resnet\.multitask_tiny"
        with pytest.raises(UsageError, match=near):
            torch.hub.load(str(ROOT), wrong, source="local")
    with pytest.raises(UsageError, match="HZ-C20"):
        torch.hub.load(str(ROOT), "../x", source="local")
    with pytest.raises(RuntimeError, match="Cannot find callable _nothing"):
        torch.hub.load(str(ROOT), "_nothing", source="local")


def test_torch_hub_lists_the_models_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", lambda *a, **k: str(ROOT))
    spellings = {s for name in registry.names() for s in (name, name.replace(".", "_"))}
    assert set(torch.hub.list("histozoo/histozoo")) == spellings
