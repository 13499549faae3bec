"""Self-supervised experiments from file to run, and runs that begin where a published model ended."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from histozoo import (
    assemble,
    candidate,
    continuing,
    experiment,
    gates,
    pretrain,
    publish,
    registry,
    unlabelled_data,
)
from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import encoder_sources
from histozoo.tasks import TASKS
from tests.fakes.tasks import DRAWN, write_drawn
from tests.fakes.tiles import write_table

SSL = """
name = "test_resnet.simclr_drawn"
preset = "small"
tasks = ["drawn_nuclei", "drawn_stroma"]
tile_px = 32
pack_px = 40
train_px = 32
steps = 4
batch_size = 8
eval_every = 4
save_every = 2
precision = "fp32"
corpus = "Two drawn tasks."
intended_use = "None; a test."
limits = "Drawn tiles."

[objective]
hidden = 24
outputs = 16
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """`data`, an experiment per recipe and an empty zoo."""
    torch.set_num_threads(1)
    write_drawn(tmp_path)
    (tmp_path / "ssl.toml").write_text(SSL)
    yield tmp_path
    for name in DRAWN:
        TASKS.pop(name)


@pytest.fixture
def parent(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published bundle of a self-supervised model."""
    monkeypatch.setattr(gates, "reloads", lambda bundle: [])
    bundle = publish.publish(run(place), out=place / "dist", zoo=place / "zoo", cards=place / "cards")
    monkeypatch.setenv("HISTOZOO_ZOO", str(place / "zoo"))
    return bundle


def run(place: Path, runs: str = "runs", file: str = "ssl.toml", **changes: Any) -> Path:
    return pretrain.run(place / file, data_root=place / "data", runs=place / runs, device="cpu", **changes)


def tensors(folder: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def test_a_self_supervised_experiment_becomes_a_run_and_a_bundle(parent: Path) -> None:
    run_folder = parent.parents[1] / "runs" / parent.name
    settings = json.loads((run_folder / "experiment.json").read_text())
    assert settings["objective"] == {"temperature": 0.1, "hidden": 24, "outputs": 16, "warmup": 0.1}
    assert settings["views"]["stain_p"] == 0.8 and "head_warmup_steps" not in settings
    ours = registry.read_entry(parent / "config.json").ours
    assert ours["recipe"] == "simclr" and [c["task"] for c in ours["corpus"]] == list(DRAWN)
    heads = tensors(parent, "heads")
    assert heads and all(k.startswith("projector.") for k in heads)
    assert registry.entry("test_resnet.simclr_drawn").ours["training_state"]["heads"]["bytes"] == (
        (parent / "heads.safetensors").stat().st_size
    )


def test_the_documented_experiment_is_understood() -> None:
    text = (Path(__file__).parents[1] / "docs" / "pretraining.md").read_text(encoding="utf-8")
    whole, bounds = map(tomllib.loads, re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
    e = experiment.resolve(whole)
    unlabelled_data.named(e)
    assert e.intended_use and e.limits  # the example can be published
    assert e.own["views"]["without"] == ("solarise", "hue") and e.own["objective"]["hidden"] == 1024
    bounded = experiment.resolve({**whole, **bounds})
    view = assemble.unlabelled_views(bounded, (0.3, 0.3)).views[0]
    root = view.aspect**0.5
    assert (view.area[0] ** 0.5 / root * 256, view.px) == (pytest.approx(150), 224)
    assert round(min(view.area[1] ** 0.5 * root, 1) * 256) == 256


def test_g53_a_finished_run_takes_what_was_not_stated_without_training_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "reloads", lambda bundle: [])
    (place / "silent.toml").write_text(
        SSL.replace('intended_use = "None; a test."', "").replace("limits", "#")
    )
    folder = run(place, file="silent.toml")
    published: dict[str, Any] = {"out": place / "dist", "zoo": place / "zoo", "cards": place / "cards"}
    with pytest.raises(
        IntegrityError, match=r"HZ-G53 not stated: intended_use, limits; write .*--accept-change"
    ):
        publish.publish(folder, **published)
    before = (folder / "final" / "model.safetensors").read_bytes()
    with pytest.raises(IntegrityError, match="HZ-F44"):
        run(place)
    monkeypatch.setattr(pretrain, "_train", lambda *_, **__: pytest.fail("it was trained again"))
    run(place, accept_change=True)
    assert (folder / "final" / "model.safetensors").read_bytes() == before
    assert "intended_use" in (folder / "changes.jsonl").read_text()
    raw = json.loads((publish.publish(folder, **published) / "config.json").read_text())
    assert raw["histozoo"]["limits"] == "Drawn tiles."


def test_only_training_tiles_are_shown_and_resuming_changes_no_bit(place: Path) -> None:
    whole = run(place)
    part = place / "other" / whole.name
    run(place, "other")
    for name in ("final", "checkpoint-4"):
        for path in sorted((part / name).iterdir()):
            path.unlink()
        (part / name).rmdir()
    run(place, "other")
    assert (whole / "final/model.safetensors").read_bytes() == (part / "final/model.safetensors").read_bytes()
    e = experiment.read(place / "ssl.toml")
    tasks = pretrain.prepare_tasks(e, data_root=place / "data", cache=place / "runs" / "tiles")
    shown = pretrain.sequence(e, tasks, {}, samples=400, uniforms=3)
    known = {name: {p.packed_NHWC[row].tobytes() for row in p.split.train} for name, p in tasks.items()}
    drawn = [shown[i] for i in range(400)]
    assert all(d["tiles"].numpy().tobytes() in known[list(tasks)[d["set"]]] for d in drawn)
    assert len({d["tiles"].numpy().tobytes() for d in drawn}) == sum(map(len, known.values()))


def test_unlabelled_sources_are_mixed_with_the_tasks_and_recorded(place: Path) -> None:
    write_table(place / "data" / "pool", 6, ("x",), px=48, seed=9)
    more = '\n[unlabelled.pool]\nfolder = "pool"\nlicence = "CC0-1.0"\nlineage = "third"\nweight = 3.0\n'
    (place / "more.toml").write_text(SSL + more)
    e = experiment.read(place / "more.toml")
    folder = run(place, file="more.toml")
    told = json.loads((folder / "data.json").read_text())
    assert list(told) == [*DRAWN, "pool"]
    assert (
        told["pool"]["n"] == 6 and told["pool"]["lineage"] == "third" and told["pool"]["licence"] == "CC0-1.0"
    )
    tasks = pretrain.prepare_tasks(e, data_root=place / "data", cache=place / "runs" / "tiles")
    opened = unlabelled_data.open_all(e, data_root=place / "data", cache=place / "runs" / "tiles")
    shown = pretrain.sequence(e, tasks, opened.sets, samples=1000, uniforms=3)
    sets = [shown[i]["set"] for i in range(1000)]
    assert 0.55 < sets.count(2) / 1000 < 0.65  # weights 1, 1 and 3
    left = run(place, "left", file="more.toml", leave_out=["third"])
    assert list(json.loads((left / "data.json").read_text())) == list(DRAWN)


def test_a_run_may_have_no_labels_at_all(place: Path) -> None:
    write_table(place / "data" / "pool", 12, ("x",), px=48, seed=9)
    text = SSL.replace('tasks = ["drawn_nuclei", "drawn_stroma"]\n', "")
    (place / "alone.toml").write_text(text + '\n[unlabelled.pool]\nfolder = "pool"\n')
    assert (run(place, file="alone.toml") / "final" / "DONE.json").exists()
    (place / "none.toml").write_text(text)
    with pytest.raises(UsageError, match=r"HZ-U43 .*'tasks'"):
        run(place, file="none.toml")


def test_labelled_and_unlabelled_rows_are_spread_evenly() -> None:
    labelled = [{"tiles": i, "task": 0, "label": 1, "u": i, "index": i} for i in range(100)]
    others = [{"tiles": -i, "set": 0, "u": i, "index": i} for i in range(100)]
    rows = unlabelled_data.PartlyLabelled(labelled, others, share=0.25, samples=80)  # type: ignore[arg-type]
    found = [rows[i] for i in range(len(rows))]
    assert [r["index"] for r in found] == list(range(80))
    assert [sum(r["task"] < 0 for r in found[i : i + 8]) for i in range(0, 80, 8)] == [2] * 10
    assert [r["tiles"] for r in found if r["task"] == 0] == list(range(60))
    assert [-r["tiles"] for r in found if r["task"] < 0] == list(range(20))


def test_multitask_and_unlabelled_tiles_train_one_trunk(place: Path) -> None:
    write_table(place / "data" / "pool", 12, ("x",), px=48, seed=9)
    text = SSL.replace("simclr_drawn", "multitaskssl_drawn") + '\n[unlabelled.pool]\nfolder = "pool"\n'
    (place / "both.toml").write_text(text)
    folder = run(place, file="both.toml", ssl="byol", objective={"hidden": 24, "outputs": 16})
    weights = load_file(folder / "final" / "model.safetensors")
    assert {k.partition(".")[0] for k in weights} == {"backbone", "multitask", "objective"}
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any("val_drawn_nuclei" in r for r in records)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"unlabelled": {"pool": {"foldr": "pool"}}}, "HZ-U86"),
        ({"unlabelled": {"pool": {"folder": "pool", "licence": 3}}}, "HZ-U86"),
        ({"unlabelled": {"drawn_nuclei": {"folder": "pool"}}}, "HZ-U86"),
        ({"unlabelled": {"pool": {"folder": "nowhere"}}}, "HZ-U"),
        ({"unlabelled": "pool"}, "HZ-U43"),
        ({"objective": {"temprature": 1.0}}, "HZ-U42"),
        ({"objective": {"temperature": -1.0}}, "HZ-U43"),
        ({"objective": {"hidden": 2.5}}, "HZ-U43"),
        ({"views": {"blur_p": 2.0}}, "HZ-U43"),
        ({"views": {"blurp": 0.5}}, "HZ-U42"),
        ({"views": {"global_views": 3}}, "HZ-U43"),
        ({"views": {"local_views": 2}}, "HZ-U43"),
        ({"views": {"without": ["colr"]}}, "HZ-U86"),
        ({"views": {"area": [0.9, 0.4]}}, "HZ-U86"),
        ({"views": {"area": [0.5, 3.0]}}, "HZ-U86"),
        ({"views": {"aspect": 0.2}}, "HZ-U86"),
        ({"views": {"hue": 3.0}}, "HZ-U86"),
        ({"views": {"sigma": [0.0, 0.0]}}, "HZ-U86"),
        ({"views": {"global_views": 1}}, "HZ-U87"),
        ({"head_lr_factor": 2.0}, "HZ-U42"),
    ],
)
def test_what_an_experiment_says_wrongly_is_refused_by_name(
    place: Path, change: dict[str, Any], code: str
) -> None:
    with pytest.raises(UsageError, match=code):
        run(place, **change)
    assert not (place / "runs" / "test_resnet.simclr_drawn" / "final").exists()


def test_everything_is_inherited_and_the_parent_is_recorded(parent: Path, place: Path) -> None:
    settings = {"init": str(parent), "inherit": "everything", "lr": 1e-30, "weight_decay": 0.0}
    child = run(place, "children", **settings)
    # A rate of next to nothing: what the parent ended with is what the child has.
    for key, value in tensors(parent, "heads").items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(tensors(child / "final")[key], value), key
    moments = tensors(child / "final", "optimizer")
    assert {float(v) for k, v in moments.items() if k.endswith(".step")} == {8.0}
    recorded = json.loads((child / "experiment.json").read_text())
    entry = registry.read_entry(parent / "config.json")
    assert recorded["init"] == entry.name and recorded["parents"] == [
        {"name": entry.name, "sha256": entry.weights.sha256, "licence": entry.licence}
    ]
    assert str(place) not in (child / "experiment.json").read_text()
    lineages, complete = encoder_sources._initial(recorded["init"])
    assert {"first", "second"} <= lineages and complete


def test_a_child_is_published_with_its_parent_in_entry_and_card(
    parent: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(place / "dist"))
    text = SSL.replace("simclr_drawn", "simclr_drawn_v2")
    (place / "child.toml").write_text(text)
    child = run(place, file="child.toml", init="test_resnet.simclr_drawn", inherit="everything")
    bundle = publish.publish(child, out=place / "dist", zoo=place / "zoo", cards=place / "cards")
    entry = registry.read_entry(bundle / "config.json")
    sha256 = registry.read_entry(parent / "config.json").weights.sha256
    assert entry.ours["parents"] == [{"name": "test_resnet.simclr_drawn", "sha256": sha256}]
    assert "test_resnet.simclr_drawn" in (bundle / "README.md").read_text()


def test_the_backbone_alone_starts_any_recipe(parent: Path, place: Path) -> None:
    text = SSL.replace("simclr_drawn", "byol_drawn").replace("hidden = 24", "hidden = 20")
    (place / "byol.toml").write_text(text)
    child = run(place, file="byol.toml", init=str(parent), lr=1e-30, weight_decay=0.0)
    theirs, own = tensors(parent), tensors(child / "final")
    kernels = [k for k, v in theirs.items() if v.ndim == 4]
    assert kernels and all(
        torch.allclose(theirs[k], own[f"backbone.{k}"], rtol=0, atol=1e-20) for k in kernels
    )


def test_a_transformer_is_trained_published_and_measured_at_its_tile_size(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from histozoo.evaluate.encoders import encoder

    monkeypatch.setattr(gates, "reloads", lambda bundle: [])
    text = SSL.replace("test_resnet.simclr", "test_vit.dino").replace(
        "outputs = 16", "outputs = 16\nbottleneck = 8"
    )
    (place / "vit.toml").write_text(text + "\n[views]\nlocal_px = 16\n")
    folder = run(place, file="vit.toml")
    bundle = publish.publish(folder, out=place / "dist", zoo=place / "zoo", cards=place / "cards")
    assert registry.read_entry(bundle / "config.json").raw["model_args"]["img_size"] == 32
    x_BCHW = torch.rand(2, 3, 32, 32)
    features = [encoder(name).build()(x_BCHW) for name in (str(folder), str(bundle), f"random:{folder}@0")]
    assert torch.equal(features[0], features[1]) and features[2].shape == features[0].shape
    assert not torch.allclose(features[0], features[2])


def test_what_does_not_fit_is_refused_before_training(parent: Path, place: Path) -> None:
    with pytest.raises(UsageError, match=r"HZ-U88 .*does not fit") as caught:
        run(place, "other", init=str(parent), inherit="everything", objective={"hidden": 16})
    assert "--only-backbone" in caught.value.next_step and not (place / "other").exists()
    with pytest.raises(UsageError, match=r"HZ-U88 the optimizer's state does not fit"):
        run(place, "other", init=str(parent), inherit="everything", optimizer="sgd")
    assert not (place / "other").exists()
    assert run(place, "other", init=str(parent), inherit="everything").exists()
    with pytest.raises(UsageError, match=r"HZ-U43 .*inherit"):
        run(place, "other", inherit="everything")
    (place / "vit.toml").write_text(SSL.replace("test_resnet", "test_vit"))
    with pytest.raises(UsageError, match=r"HZ-U43 .*another architecture"):
        run(place, "other", file="vit.toml", init=str(parent))


@pytest.mark.parametrize("part", ["heads", "optimizer"])
def test_a01_a02_damaged_training_state_is_refused(parent: Path, place: Path, part: str) -> None:
    path = parent / f"{part}.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="HZ-A02"):
        run(place, "other", init=str(parent), inherit="everything")
    path.unlink()
    with pytest.raises(IntegrityError, match="HZ-U14"):
        run(place, "other", init=str(parent), inherit="everything")


def test_an_entry_of_an_earlier_version_has_its_backbone_to_give() -> None:
    with pytest.raises(UsageError, match=r"HZ-U88 .*without a record") as caught:
        continuing.training_state(registry.entry("resnet18.multitask_path11"))
    assert "--only-backbone" in caught.value.next_step


def test_a_state_without_its_parameter_is_refused() -> None:
    e = experiment.resolve({"name": "test_resnet.simclr_x", "tasks": ["a"], "preset": "small", "tile_px": 32})
    recipe = assemble.build_recipe(e, {})
    optimizer = torch.optim.AdamW(recipe.param_groups())
    name, p = next(iter(recipe.named_parameters()))
    good = {
        f"{name}.exp_avg": torch.ones_like(p),
        f"{name}.exp_avg_sq": torch.ones_like(p),
        f"{name}.step": torch.tensor(3.0),
    }
    for wrong in (
        {**good, "nobody.exp_avg": torch.zeros(2)},
        {**good, f"{name}.exp_avg": torch.zeros(len(p) + 1)},
        {f"{name}.momentum_buffer": torch.ones_like(p)},
    ):
        with pytest.raises(UsageError, match=r"HZ-U88 .*does not fit"):
            continuing.take_optimizer(optimizer, recipe, wrong)
    continuing.take_optimizer(optimizer, recipe, good)
    assert torch.equal(optimizer.state[p]["exp_avg"], torch.ones_like(p)) and optimizer.state[p]["step"] == 3


def test_a_state_in_another_memory_order_gives_the_same_step() -> None:
    """Files hold plain order, a trunk's kernels lie channels last, and fused AdamW looks at no strides."""
    e = experiment.resolve({"name": "test_resnet.simclr_x", "tasks": ["a"], "preset": "small", "tile_px": 32})
    moved = []
    for order in (torch.channels_last, torch.contiguous_format):
        recipe = assemble.build_recipe(e, {}).to(memory_format=order)
        optimizer = torch.optim.AdamW(recipe.param_groups(), fused=True)
        name, p = next((n, p) for n, p in recipe.named_parameters() if p.ndim == 4 and p.shape[1] > 1)
        value = torch.linspace(0, 1, p.numel()).view(p.shape)
        state = {"exp_avg": value, "exp_avg_sq": value, "step": torch.tensor(3.0)}
        continuing.take_optimizer(optimizer, recipe, {f"{name}.{k}": v for k, v in state.items()})
        before = p.detach().clone()
        p.grad = torch.zeros_like(p)
        optimizer.step()
        moved.append((p.detach() - before).contiguous())
    assert moved[0].abs().max() > 0 and torch.allclose(*moved, rtol=1e-4)


def test_parents_of_a_run_are_those_it_recorded(place: Path) -> None:
    recorded = [{"name": "x.y_z", "sha256": None, "licence": "mit"}]
    assert candidate.parents_of({"init": "nobody.knows_this", "parents": recorded}) == recorded
    assert candidate.parents_of({"init": "random"}) == []
