"""verify: the published pipeline passes everywhere, every other one is found and its stage named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from histozoo import artifact, contract, gates, golden, publish, verify
from histozoo.errors import IntegrityError, UsageError
from tests.fakes.hub import Hub
from tests.fakes.hub_faults import flip_bit
from tests.fakes.run import edit_json, make_run
from tests.fakes.tiny import NAME, tiny_zoo

REPO = f"histozoo/{NAME}"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the tiny zoo that may be changed."""
    return Path(shutil.copytree(tiny_zoo(), tmp_path / "house"))


@pytest.fixture
def bundle(house: Path) -> Path:
    return house / "dist" / NAME


def republish(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the pipeline of a bundle as a careless publisher would: entry, weights and hashes agree, only the golden tensors are old."""
    edit_json(bundle / "config.json", change)
    raw = json.loads((bundle / "config.json").read_text())
    path = bundle / "model.safetensors"
    digest = artifact.save_canonical(load_file(path), path, artifact.weights_metadata(raw))
    edit_json(
        bundle / "config.json",
        lambda r: r["histozoo"]["weights"].update(sha256=digest, bytes=path.stat().st_size, embedded=None),
    )


def pipeline(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Returns a change of preprocessing, made in both halves of an entry."""
    ours = {"interpolation": "kernel", "crop_mode": "crop"}

    def change(raw: dict[str, Any]) -> None:
        raw["pretrained_cfg"] |= fields
        raw["histozoo"]["contract"] |= {ours.get(k, k): v for k, v in fields.items()}
        if "crop_mode" in fields:
            raw["histozoo"]["contract"]["resize"] = {"squash": "squash", "border": "longest_side"}[
                fields["crop_mode"]
            ]

    return change


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_published_bundle_passes_in_every_precision(bundle: Path, dtype: verify.Precision) -> None:
    report = verify.verify(bundle, dtype=dtype)
    preprocess, model = report.stages
    assert report.passed and report.require() is report and (report.name, report.dtype) == (NAME, dtype)
    assert preprocess.deviation == 0 and (model.deviation == 0) == (dtype == "float32")
    assert (
        report.text().splitlines()[0] == f"pass  {NAME} in {dtype}" and len(report.text().splitlines()) == 3
    )


def test_the_embedded_model_passes_offline_by_its_name(
    house: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(house / "dist")
    monkeypatch.setenv("HISTOZOO_ZOO", str(house / "zoo"))
    report = verify.verify(NAME)
    assert [s.deviation for s in report.stages] == [0, 0] and not hub.log


def test_a_model_on_the_hub_passes_by_its_name(
    house: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = hub.add_folder(REPO, house / "dist" / NAME)
    edit_json(house / "zoo" / f"{NAME}.json", lambda r: r["histozoo"]["weights"].update(revision=revision))
    for path in (house / "zoo").glob("*.safetensors"):
        path.unlink()
    monkeypatch.setenv("HISTOZOO_ZOO", str(house / "zoo"))
    assert [s.deviation for s in verify.verify(NAME).stages] == [0, 0]
    assert {r.path.rsplit("/")[-1] for r in hub.requests("GET .*resolve")} == {
        "golden.safetensors",
        "model.safetensors",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": [0.485, 0.456, 0.406]},
        {"std": [0.229, 0.224, 0.225]},
        {"mean": [0.65, 0.5, 0.7]},  # the right one with red and blue exchanged
        {"interpolation": "bilinear"},
        {"interpolation": "lanczos"},
        {"crop_mode": "squash"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a08_another_preprocessing_fails_in_the_preprocess_stage(
    bundle: Path, wrong: dict[str, Any], dtype: verify.Precision
) -> None:
    republish(bundle, pipeline(**wrong))
    report = verify.verify(bundle, dtype=dtype)
    assert [s.passed for s in report.stages] == [False, True]
    assert report.stages[0].deviation > 15 * verify.PREPROCESS_TOLERANCE


def test_a08_another_channel_order_fails_in_the_preprocess_stage(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = contract.transform
    monkeypatch.setattr(contract, "transform", lambda entry: lambda tile: right(entry)(tile).flip(0))
    assert [s.passed for s in verify.verify(bundle).stages] == [False, True]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a08_another_variant_of_the_architecture_fails_in_the_model_stage(
    bundle: Path, dtype: verify.Precision
) -> None:
    republish(bundle, lambda raw: raw["model_args"].update(act_layer="silu"))
    report = verify.verify(bundle, dtype=dtype)
    assert [s.passed for s in report.stages] == [True, False]
    with pytest.raises(IntegrityError) as refused:
        report.require()
    text = str(refused.value)
    assert refused.value.exit_code == 3 and text.startswith(
        f"HZ-A08 {NAME} does not compute here what it computed"
    )
    assert (
        f"model stage, {dtype}" in text
        and "architecture options" in text
        and f"{report.stages[1].deviation:.3g}" in text
    )
    assert (
        report.text().startswith("FAIL")
        and "  FAIL  model stage: largest difference / rms = " in report.text()
    )


def test_a08_an_entry_edited_by_hand_is_refused_before_anything_is_computed(bundle: Path) -> None:
    edit_json(bundle / "config.json", pipeline(interpolation="bilinear"))
    with pytest.raises(IntegrityError, match="HZ-A08"):
        verify.verify(bundle)


def test_a_machine_that_gives_no_numbers_fails(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "features", lambda model, x_BCHW: torch.full((4, 96), float("nan")))
    assert not verify.verify(bundle).passed


def test_a02_changed_golden_tensors_are_refused(bundle: Path) -> None:
    path = bundle / "golden.safetensors"
    path.write_bytes(flip_bit(path.read_bytes(), 8 * path.stat().st_size - 1))
    with pytest.raises(IntegrityError, match=r"HZ-A02 golden\.safetensors does not match"):
        verify.verify(bundle)


def test_missing_golden_tensors_are_named(bundle: Path) -> None:
    (bundle / "golden.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"HZ-U14 the bundle folder lacks golden\.safetensors") as caught:
        verify.verify(bundle)
    assert caught.value.exit_code == 3, (
        "neither disk nor network nor permission: the bundle is not what was published"
    )


def test_golden_tensors_of_another_kind_are_refused(bundle: Path) -> None:
    path = bundle / "golden.safetensors"
    digest = artifact.save_canonical({"features_BD": torch.zeros(1, 2)}, path)
    edit_json(
        bundle / "config.json",
        lambda r: r["histozoo"]["golden"].update(sha256=digest, bytes=path.stat().st_size),
    )
    with pytest.raises(IntegrityError, match="HZ-A05 the golden tensors have other names"):
        verify.verify(bundle)


def test_c19_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="HZ-C19"):
        verify.verify("resnet18.multitask_nowhere")


def test_deviation_is_the_largest_difference_over_the_root_mean_square() -> None:
    expected = torch.tensor([3.0, -3.0, 3.0, -3.0])
    assert golden.deviation(expected + torch.tensor([0.0, 0.3, -0.6, 0.0]), expected) == pytest.approx(0.2)
    assert (
        golden.deviation(expected[:2], expected) == golden.deviation(expected / 0, expected) == float("inf")
    )
    assert golden.deviation(torch.zeros(2), torch.zeros(2)) == 0 and golden.deviation(
        torch.ones(2), torch.zeros(2)
    ) == float("inf")


def test_other_families_stay_within_half_the_tolerances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "reloads", lambda bundle: [])  # test_publish has it
    settings = {"test_vit": {"tile_px": 160, "train_px": 160}}
    for arch in ("test_vit", "test_convnext"):
        run = make_run(tmp_path / "runs", arch, settings=settings.get(arch))
        made = publish.publish(run, out=tmp_path / "dist", zoo=tmp_path / "zoo", cards=tmp_path / "cards")
        for dtype, tolerance in verify.TOLERANCES.items():
            report = verify.verify(made, dtype=dtype)  # type: ignore[arg-type]
            assert report.passed and report.stages[1].deviation < tolerance / 2
