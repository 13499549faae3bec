"""run -> bundle: what a bundle holds, what is refused, and that nothing half-done is left."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from histozoo import candidate, contract, durable, gates, golden, publish
from histozoo.errors import IntegrityError, ResourceError, UsageError
from tests.fakes.run import EXPERIMENT, RESULT, edit_json, make_run, recipe_tensors, write_final
from tests.fakes.tiny import NAME, tiny_zoo

FILES = {
    "README.md",
    "config.json",
    "golden.safetensors",
    "heads.safetensors",
    "model.safetensors",
    "optimizer.safetensors",
}


class House:
    """A runs/, dist/, zoo/ and model_cards/ of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.runs = root, root / "runs"
        self.places = {"out": root / "dist", "zoo": root / "zoo", "cards": root / "model_cards"}

    def publish(self, run: Path) -> Path:
        return publish.publish(run, **self.places)

    def written(self) -> dict[str, bytes]:
        folders = self.places.values()
        return {
            str(p.relative_to(self.root)): p.read_bytes()
            for f in folders
            for p in sorted(f.rglob("*"))
            if p.is_file()
        }


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def published() -> tuple[House, Path]:
    """The session's published run, for tests that only look."""
    house = House(tiny_zoo())
    return house, house.places["out"] / NAME


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the fresh process, for tests of what happens before and after it."""
    monkeypatch.setattr(gates, "reloads", lambda bundle: [])


def test_bundle_holds_everything_and_the_zoo_entry_is_its_config(published: tuple[House, Path]) -> None:
    house, bundle = published
    assert {p.name for p in bundle.iterdir()} == FILES
    zoo = house.places["zoo"]
    assert (zoo / f"{NAME}.json").read_bytes() == (bundle / "config.json").read_bytes()
    assert {p.name for p in zoo.iterdir()} == {
        f"{NAME}.json",
        f"{NAME}.safetensors",
        f"{NAME}.golden.safetensors",
    }
    assert (house.places["cards"] / f"{NAME}.md").read_bytes() == (bundle / "README.md").read_bytes()


def test_hashes_in_the_entry_are_those_of_the_files(published: tuple[House, Path]) -> None:
    house, bundle = published
    h = json.loads((bundle / "config.json").read_text())["histozoo"]
    embedded = house.places["zoo"] / h["weights"]["embedded"]["file"]
    for path, facts in (
        (bundle / "model.safetensors", h["weights"]),
        (bundle / "golden.safetensors", h["golden"]),
        (embedded, h["weights"]["embedded"]),
    ):
        data = path.read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (facts["sha256"], facts["bytes"])


def test_embedded_and_full_weights_are_the_same_numbers_within_half_a_unit_of_the_trained_ones(
    published: tuple[House, Path],
) -> None:
    house, bundle = published
    full, half = (
        load_file(bundle / "model.safetensors"),
        load_file(house.places["zoo"] / f"{NAME}.safetensors"),
    )
    trained = load_file(house.runs / NAME / "final" / "model.safetensors")
    assert (
        set(full) == set(half) == {k.removeprefix("backbone.") for k in trained if k.startswith("backbone.")}
    )
    for key, tensor in full.items():
        assert torch.equal(half[key].to(tensor.dtype), tensor)
        torch.testing.assert_close(tensor, trained[f"backbone.{key}"], rtol=2**-11, atol=2**-25)
        assert tensor.dtype == (torch.int64 if key.endswith("num_batches_tracked") else torch.float32)


def test_heads_and_optimizer_are_kept_as_they_were_trained(published: tuple[House, Path]) -> None:
    house, bundle = published
    final = house.runs / NAME / "final"
    trained = {k: v for k, v in load_file(final / "model.safetensors").items() if k.startswith("heads.")}
    heads, optimizer, state = (
        load_file(p)
        for p in (
            bundle / "heads.safetensors",
            bundle / "optimizer.safetensors",
            final / "optimizer.safetensors",
        )
    )
    assert trained.keys() == heads.keys() and all(torch.equal(heads[k], trained[k]) for k in trained)
    assert state.keys() == optimizer.keys() and all(torch.equal(optimizer[k], state[k]) for k in state)


def test_entry_states_corpus_contract_and_licence(published: tuple[House, Path]) -> None:
    raw = json.loads((published[1] / "config.json").read_text())
    h = raw["histozoo"]
    assert "num_classes" not in raw["model_args"] and raw["pretrained_cfg"]["input_size"] == [3, 48, 48]
    assert raw["pretrained_cfg"]["mean"] == h["contract"]["mean"] == EXPERIMENT["mean"]
    assert [c["task"] for c in h["corpus"]] == ["glands", "blood"] and h["licence"]["id"] == "apache-2.0"
    assert h["contract"]["mpp"] is None and "48 px whatever its pixel size" in h["contract"]["mpp_reason"]
    assert h["results"] == [RESULT] and h["weights"]["revision"] is None and h["parents"] == []


def test_publishing_twice_gives_identical_bytes(
    published: tuple[House, Path], house: House, trusting: None
) -> None:
    house.publish(make_run(house.runs))
    assert house.written() == published[0].written()


def test_a_transformer_states_its_tokens_and_size(house: House, trusting: None) -> None:
    bundle = house.publish(make_run(house.runs, "test_vit", settings={"tile_px": 160, "train_px": 160}))
    raw = json.loads((bundle / "config.json").read_text())
    assert raw["histozoo"]["contract"]["prefix_tokens"] == 1
    assert raw["global_pool"] == "token" and raw["pretrained_cfg"]["pool_size"] is None


# -- golden tiles --


def test_golden_tiles_are_the_same_on_every_machine() -> None:
    tiles_BHWC = publish.golden_tiles(48)
    assert tiles_BHWC.shape == (golden.TILES, 72, 60, 3) and tiles_BHWC.dtype == np.uint8
    assert hashlib.sha256(tiles_BHWC.tobytes()).hexdigest()[:16] == "362dcf2b7da2d716"


def test_golden_tiles_tell_kernel_mean_channel_order_and_crop_apart(published: tuple[House, Path]) -> None:
    from timm.data import create_transform

    g = load_file(published[1] / "golden.safetensors")
    tiles = g["tiles_BHWC"].numpy()
    right = {
        "input_size": (3, 48, 48),
        "interpolation": "bicubic",
        "mean": EXPERIMENT["mean"],
        "std": EXPERIMENT["std"],
        "crop_pct": 1.0,
    }

    def off(tiles_BHWC: np.ndarray | None = None, **wrong: object) -> float:
        return golden.deviation(
            golden.preprocess(
                tiles if tiles_BHWC is None else tiles_BHWC, create_transform(**{**right, **wrong})
            ),
            g["pixels_BCHW"],
        )

    assert off() == 0
    assert off(interpolation="bilinear") > 0.02 and off(interpolation="lanczos") > 0.02
    assert off(mean=[0.485, 0.456, 0.406]) > 0.1 and off(crop_pct=0.95) > 0.1
    assert off(tiles_BHWC=tiles[..., ::-1].copy()) > 0.1


# -- gates --


def test_g49_all_failed_gates_are_listed_together_and_nothing_is_left(house: House) -> None:
    broken = recipe_tensors("test_resnet", ["glands"], seed=0)
    key = next(k for k, v in broken.items() if v.ndim == 4)
    broken[key][0, 0, 0, 0] = float("nan")
    broken["heads.glands.bias"][0] = float("inf")
    run = make_run(
        house.runs,
        weights={**broken, "backbone.extra.weight": torch.ones(2)},
        settings={"limits": ""},
        results=[{**RESULT, "value": 2.0}],
    )
    with pytest.raises(IntegrityError) as refused:
        house.publish(run)
    text = str(refused.value)
    assert text.startswith("HZ-G49 the candidate fails 5 gates and is not published")
    for part in (
        "extra.weight",
        key.removeprefix("backbone."),
        "heads.glands.bias has 1 values",
        "HZ-G53 not stated: limits",
        "HZ-I62 glands probe",
    ):
        assert part in text
    assert "nothing left this machine" in text and house.written() == {}
    assert list((house.root / "dist").iterdir()) == []


@pytest.mark.parametrize("missing", ["licence", "source", "citation", "lineage"])
def test_g53_a_corpus_without_its_origin_is_refused(house: House, missing: str) -> None:
    run = make_run(house.runs, data={"glands": {missing: ""}}, settings={"intended_use": " "})
    with pytest.raises(IntegrityError, match=rf"HZ-G53 not stated: intended_use, corpus\.glands\.{missing}"):
        house.publish(run)
    assert house.written() == {}


@pytest.mark.parametrize(
    "secret", ["hf_abcdefghijklmnopqrstuvwxyz0123", "/home/someone/tiles", "C:\\Users\\someone\\x.svs"]
)
def test_g52_secrets_and_paths_in_what_a_person_wrote_are_refused_and_masked(
    house: House, secret: str, trusting: None
) -> None:
    run = make_run(house.runs, settings={"limits": f"see {secret} for more"})
    with pytest.raises(IntegrityError, match=r"HZ-G52 config\.json") as refused:
        house.publish(run)
    assert "hf_abcdefghijkl" not in str(refused.value) and house.written() == {}


@pytest.mark.parametrize("gate", ["text", "secrets", "weights", "paper", "entry", "results", "reloads"])
def test_g49_every_gate_is_asked(
    house: House, gate: str, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    monkeypatch.setattr(gates, gate, lambda *_: [f"{gate}: says no"])
    with pytest.raises(IntegrityError, match=f"{gate}: says no"):
        house.publish(make_run(house.runs))
    assert house.written() == {}


def test_a06_a_constant_matrix_is_refused(house: House) -> None:
    weights = recipe_tensors("test_resnet", ["glands"], seed=0)
    key = next(k for k, v in weights.items() if v.ndim == 4)
    with pytest.raises(IntegrityError, match="HZ-A06"):
        house.publish(make_run(house.runs, weights={key: torch.full_like(weights[key], 0.5)}))


def test_a08_a_bundle_that_stock_timm_computes_otherwise_is_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform, features = contract.transform, golden.features
    monkeypatch.setattr(contract, "transform", lambda entry: lambda tile: transform(entry)(tile).flip(0))
    # The smallest difference there is: one unit in the last place of every feature.
    last_bit = torch.tensor(9.0)
    monkeypatch.setattr(
        golden, "features", lambda model, x_BCHW: torch.nextafter(features(model, x_BCHW), last_bit)
    )
    with pytest.raises(IntegrityError) as refused:
        house.publish(make_run(house.runs))
    assert re.search(
        r"HZ-A08 stock timm computes something else: preprocess stage differs by \d\S+; model stage differs by \d",
        str(refused.value),
    )
    assert house.written() == {}


def test_a08_the_stage_that_differs_is_named() -> None:
    same = {"pixels": 0.0, "features": 0.0, "histozoo": False}
    assert gates._stage({**same, "pixels": 0.5}).endswith(": preprocess stage differs by 0.5")
    assert gates._stage({**same, "features": "shape [4, 9] instead of [4, 96]"}).endswith(
        ": model stage differs by shape [4, 9] instead of [4, 96]"
    )
    assert "imported histozoo" in gates._stage({**same, "histozoo": True})


def test_a_result_that_is_no_score_or_has_no_interval_is_refused() -> None:
    bad = [{"value": float("nan")}, {"interval": [0.95, 0.9]}, {"interval": None}, {"n_groups": 0}]
    assert [len(gates.results([{**RESULT, **b}])) for b in bad] == [1, 1, 1, 1] and gates.results(
        [RESULT]
    ) == []


# -- rounding --


def test_a06_values_outside_fp16_are_published_as_float32_without_embedded_copy(
    house: House, trusting: None
) -> None:
    weights = recipe_tensors("test_resnet", ["glands"], seed=0)
    key = next(k for k, v in weights.items() if v.ndim == 4)
    weights[key][0, 0, 0, 0] = 1e5
    bundle = house.publish(make_run(house.runs, weights=weights))
    h = json.loads((bundle / "config.json").read_text())["histozoo"]
    assert (
        h["weights"]["embedded"] is None
        and f"{key.removeprefix('backbone.')} has values outside the range of fp16" in h["notes"]
    )
    assert torch.equal(load_file(bundle / "model.safetensors")[key.removeprefix("backbone.")], weights[key])
    assert not (house.places["zoo"] / f"{NAME}.safetensors").exists()


def test_a_tensor_that_fp16_would_turn_to_zero_is_not_rounded() -> None:
    tiny = {"a": torch.full((3,), 1e-9), "b": torch.tensor([0.1])}
    kept, reason = candidate.round_once(tiny)
    assert kept == tiny and reason == "all values of a are too small for fp16"
    rounded, reason = candidate.round_once({"a": torch.tensor([1e-9, 0.1]), "zero": torch.zeros(2)})
    assert reason == "" and rounded["a"].tolist() == [0.0, float(torch.tensor(0.1).half())]


def test_weights_larger_than_the_limit_are_not_embedded(
    house: House, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    monkeypatch.setattr(publish, "EMBEDDED_BYTES", 1000)
    bundle = house.publish(make_run(house.runs))
    assert json.loads((bundle / "config.json").read_text())["histozoo"]["weights"]["embedded"] is None


# -- immutability and interruption --


def test_g51_the_same_run_again_changes_nothing(house: House, trusting: None) -> None:
    run = make_run(house.runs)
    house.publish(run)
    before = {p: p.stat().st_mtime_ns for p in (house.root / "dist").rglob("*")}
    house.publish(run)
    assert {p: p.stat().st_mtime_ns for p in (house.root / "dist").rglob("*")} == before


@pytest.mark.parametrize("lost", ["nothing", "dist", "zoo"])
def test_g51_other_content_under_a_published_name_is_refused(house: House, lost: str, trusting: None) -> None:
    house.publish(make_run(house.runs))
    if lost != "nothing":
        shutil.rmtree(house.root / lost)
    before = house.written()
    with pytest.raises(IntegrityError) as refused:
        house.publish(make_run(house.root / "other", seed=1))
    text = str(refused.value)
    assert (
        text.startswith("HZ-G51 this name is published already with other content")
        and "differing:" in text
        and "_v2" in text
    )
    assert house.written() == before


def test_g51_the_recorded_revision_survives_publishing_again(house: House, trusting: None) -> None:
    run = make_run(house.runs)
    house.publish(run)
    path = house.places["zoo"] / f"{NAME}.json"
    edit_json(path, lambda raw: raw["histozoo"]["weights"].update(revision="ab" * 20))
    pushed = path.read_bytes()
    shutil.rmtree(house.places["out"])
    bundle = house.publish(run)
    assert path.read_bytes() == pushed == (bundle / "config.json").read_bytes()


def test_g50_whatever_was_lost_after_the_rename_is_completed_by_publishing_again(
    house: House, trusting: None
) -> None:
    run = make_run(house.runs)
    house.publish(run)
    whole = house.written()
    lost_files = [
        *house.places["zoo"].iterdir(),
        *house.places["cards"].iterdir(),
        house.places["out"] / NAME / "README.md",
    ]
    for lost in lost_files:
        data = lost.read_bytes()
        lost.unlink()
        house.publish(run)
        assert lost.read_bytes() == data
    assert house.written() == whole


def test_g50_a_full_disk_leaves_the_old_state_or_the_new_one(house: House, trusting: None) -> None:
    from tests.fakes.nospace import no_space

    run = make_run(house.runs)
    with no_space() as disk:
        house.publish(run)
    whole = house.written()
    for place in house.places.values():
        shutil.rmtree(place)
    for after in (0, disk.written // 3, disk.written - 5000):
        with no_space(after), pytest.raises(ResourceError, match="HZ-F42"):
            house.publish(run)
        bundle = house.root / "dist" / NAME
        assert not bundle.exists() or {p.name for p in bundle.iterdir()} == FILES
        assert not list((house.root / "dist").glob(".*"))
    house.publish(run)
    assert house.written() == whole


def test_g50_a_kill_at_any_byte_leaves_the_old_state_or_the_new_one(house: House, trusting: None) -> None:
    from tests.fakes.killer import killed_at_byte
    from tests.fakes.nospace import no_space

    run = make_run(house.runs)
    with no_space() as disk:
        house.publish(run)
    whole = house.written()
    for place in house.places.values():
        shutil.rmtree(place)
    bundle = house.places["out"] / NAME
    for share in (0.1, 0.5, 0.8, 0.97):
        assert killed_at_byte(lambda: house.publish(run), int(disk.written * share))
        assert not bundle.exists() or {p.name for p in bundle.iterdir()} == FILES
        entry = house.places["zoo"] / f"{NAME}.json"
        assert not entry.exists() or (house.places["zoo"] / f"{NAME}.safetensors").exists()
    house.publish(run)
    assert house.written() == whole


@pytest.mark.parametrize("seed", [0, 1])
def test_g51_two_publishers_at_once_give_one_bundle(house: House, seed: int, trusting: None) -> None:
    runs = [make_run(house.runs), make_run(house.root / "other", seed=seed)]
    with ThreadPoolExecutor(2) as pool:
        errors = [e for e in pool.map(lambda run: _error(lambda: house.publish(run)), runs) if e]
    assert [str(e).split()[0] for e in errors] == ["HZ-G51"] * seed
    assert {p.name for p in (house.places["out"] / NAME).iterdir()} == FILES


def _error(work: Callable[[], object]) -> Exception | None:
    try:
        work()
    except IntegrityError as error:
        return error
    return None


# -- the run --


def test_an_unfinished_run_is_refused(house: House) -> None:
    run = make_run(house.runs)
    (run / "final" / "DONE.json").unlink()
    with pytest.raises(UsageError, match="HZ-U22 this is not a finished run"):
        house.publish(run)


def test_a02_a_run_whose_weights_changed_after_training_is_refused(house: House) -> None:
    run = make_run(house.runs)
    path = run / "final" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="HZ-A02 a file of the run is not what the run wrote"):
        house.publish(run)


def test_a_run_that_left_out_a_lineage_is_a_study_and_refused(house: House) -> None:
    run = make_run(house.runs)
    edit_json(run / "experiment.json", lambda e: e.update(leave_out=["glands"]))
    with pytest.raises(UsageError, match=r"HZ-U23 .*\n.*\n.*left out: glands"):
        house.publish(run)


def test_a05_a_run_of_another_architecture_is_refused(house: House) -> None:
    run = make_run(house.runs)
    write_final(run, {"backbone.other.weight": torch.randn(2, 2)})
    with pytest.raises(IntegrityError, match="HZ-A05"):
        house.publish(run)


# -- licences --


def test_a_parent_of_unknown_licence_binds_its_child(house: House, trusting: None) -> None:
    run = candidate.read_run(make_run(house.runs))
    facts = candidate.facts_of("test_resnet", tile_px=48)
    raw = candidate.draft(
        run, facts, rounding="", parents=[{"name": "timm:x", "sha256": None, "licence": "unknown"}]
    )
    assert raw["histozoo"]["licence"]["id"] == raw["pretrained_cfg"]["license"] == "other"


def test_durable_is_the_only_writer(published: tuple[House, Path]) -> None:
    assert (
        not list(published[0].root.rglob("*.tmp")) and durable.remove_stale(published[0].places["out"]) == 0
    )
