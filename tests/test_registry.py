"""Names and entries: every rule of the schema refuses, and says field, value and what is allowed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from histozoo import registry
from histozoo.errors import IntegrityError, UsageError
from tests.fakes.zoo import entry_json

NAME = "resnet18.multitask_path11"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "ZOO", tmp_path / "own")
    (tmp_path / "own").mkdir()
    (tmp_path / "zoo").mkdir()
    monkeypatch.setenv("HISTOZOO_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def write(zoo: Path, name: str = NAME, change: Callable[[dict[str, Any]], object] = lambda raw: None) -> Path:
    raw = entry_json(name)
    change(raw)
    (zoo / f"{name}.json").write_text(json.dumps(raw))
    return zoo / f"{name}.json"


def put(raw: dict[str, Any], path: str, value: object) -> None:
    """Sets the field `a.b.c`; deletes it for `...`."""
    *parents, last = path.split(".")
    for key in parents:
        raw = raw[key]
    if value is ...:
        del raw[last]
    else:
        raw[last] = value


def test_entry_gives_what_was_written(zoo: Path) -> None:
    write(zoo)
    entry = registry.entry(NAME)
    assert (entry.name, entry.architecture, entry.tag) == (NAME, "resnet18", "multitask_path11")
    assert (entry.recipe, entry.licence, entry.feature_dim, entry.tile_px) == (
        "multitask",
        "apache-2.0",
        64,
        96,
    )
    assert entry.contract.mean == [0.70, 0.53, 0.69] and entry.mpp == [0.5] and entry.withdrawn is None
    assert entry.weights.repo == f"histozoo/{NAME}" and entry.weights.embedded is None
    assert entry.raw == json.loads((zoo / f"{NAME}.json").read_text())
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.name = "other"  # type: ignore[misc]


def test_the_packages_own_zoo_is_always_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HISTOZOO_ZOO", raising=False)
    assert registry.zoo_folders() == [Path(registry.__file__).parent / "zoo"]


def test_several_folders_are_searched(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more").mkdir()
    write(zoo)
    write(tmp_path / "more", "vit_tiny.multitask_path11")
    monkeypatch.setenv("HISTOZOO_ZOO", f"{zoo}:{tmp_path / 'more'}:")
    assert registry.names() == [NAME, "vit_tiny.multitask_path11"]


def test_a_zoo_folder_that_does_not_exist_is_said(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOZOO_ZOO", "/nowhere/zoo")
    with pytest.raises(UsageError, match=r"(?s)HZ-U10.*nowhere/zoo"):
        registry.names()


BROKEN = {
    "mean missing": ("pretrained_cfg.mean", ..., "(missing)"),
    "mean null": ("pretrained_cfg.mean", None, "a list of 3 values"),
    "mean of one": ("pretrained_cfg.mean", [0.5], "a list of 3 values"),
    "mean in 0-255": ("histozoo.contract.mean", [178.5, 135.0, 176.0], "a finite number in [0, 1]"),
    "mean true": ("pretrained_cfg.mean", [True, 0.5, 0.5], "a finite number in [0, 1]"),
    "std zero": ("pretrained_cfg.std", [0.2, 0, 0.2], "a finite number in (0, 1]"),
    "std negative": ("pretrained_cfg.std", [0.2, -0.1, 0.2], "a finite number in (0, 1]"),
    "std missing": ("pretrained_cfg.std", ..., "(missing)"),
    "interpolation misspelt": ("pretrained_cfg.interpolation", "bicubicc", "'bicubic'"),
    "interpolation null": ("pretrained_cfg.interpolation", None, "'bicubic'"),
    "crop_pct missing": ("pretrained_cfg.crop_pct", ..., "(missing)"),
    "crop_pct above one": ("pretrained_cfg.crop_pct", 1.1, "(0, 1]"),
    "unknown key in the first half": ("pretrained_cfg.men", [0.5] * 3, "only the fields tag"),
    "a source that would be loaded instead": (
        "pretrained_cfg.url",
        "https://example.org/w.pth",
        "only the fields",
    ),
    "foreign loader": ("pretrained_cfg.custom_load", True, "False"),
    "unknown key at the top": ("label_names", ["a"], "only the fields architecture"),
    "unknown key in the contract": ("histozoo.contract.gamma", 1.0, "only the fields tile_px"),
    "architecture missing": ("architecture", ..., "(missing)"),
    "another architecture": ("architecture", "resnet34", "'resnet18', as histozoo.name says"),
    "another tag": ("pretrained_cfg.tag", "a1_in1k", "'multitask_path11', as histozoo.name says"),
    "a head": ("num_classes", 9, "0"),
    "num_classes false": ("num_classes", False, "0"),
    "model_args null": ("model_args", None, "never null"),
    "num_classes in model_args": ("model_args", {"num_classes": 0}, "to be absent"),
    "checkpoint_path in model_args": ("model_args", {"checkpoint_path": "x.pth"}, "to be absent"),
    "halves disagree on mean": (
        "histozoo.contract.mean",
        [0.7, 0.53, 0.7],
        "[0.7, 0.53, 0.7], as histozoo.contract.mean says",
    ),
    "halves disagree on the kernel": (
        "histozoo.contract.kernel",
        "bilinear",
        "'bilinear', as histozoo.contract.kernel says",
    ),
    "halves disagree on the size": ("histozoo.contract.tile_px", 224, "[3, 224, 224]"),
    "halves disagree on the licence": ("histozoo.licence.id", "mit", "'mit', as histozoo.licence.id says"),
    "BGR": ("histozoo.contract.colour_order", "BGR", "'RGB'"),
    "mpp zero": ("histozoo.contract.mpp", [0.0], "micrometres per pixel in (0, 100]"),
    "mpp null without a reason": ("histozoo.contract.mpp", None, "a reason"),
    "no antialias": ("histozoo.contract.antialias", False, "True"),
    "short sha256": ("histozoo.weights.sha256", "ab", "64 hexadecimal digits"),
    "upper-case sha256": ("histozoo.weights.sha256", "AB" * 32, "64 hexadecimal digits"),
    "branch as revision": ("histozoo.weights.revision", "main", "40 hexadecimal digits"),
    "bytes as text": ("histozoo.weights.bytes", "44", "a whole number"),
    "no bytes": ("histozoo.weights.bytes", 0, "a whole number, 1 or more"),
    "schema of tomorrow": ("histozoo.schema", 2, "1"),
    "licence empty": ("histozoo.licence.reason", " ", "a text that is not empty"),
    "intended use missing": ("histozoo.intended_use", ..., "(missing)"),
    "results of another shape": ("histozoo.results", [{"task": "x"}], "(missing)"),
    "feature length disagrees": ("num_features", 512, "64, as histozoo.contract.feature_dim says"),
}


@pytest.mark.parametrize("field, value, said", BROKEN.values(), ids=BROKEN)
def test_a07_a_broken_entry_is_refused_by_field(zoo: Path, field: str, value: object, said: str) -> None:
    path = write(zoo, change=lambda raw: put(raw, field, value))
    with pytest.raises(IntegrityError) as caught:
        registry.entry(NAME)
    assert caught.value.code == "HZ-A07" and str(path) in caught.value.where
    assert said in str(caught.value) and field.split(".")[-1] in str(caught.value)
    assert "no default" in caught.value.kept


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999"])
def test_a07_numbers_that_are_not_finite_are_refused(zoo: Path, text: str) -> None:
    path = write(zoo)
    path.write_text(path.read_text().replace("0.53", text))
    with pytest.raises(IntegrityError, match="HZ-A07"):
        registry.entry(NAME)


def test_a07_a_duplicate_key_is_refused(zoo: Path) -> None:
    path = write(zoo)
    path.write_text(path.read_text().replace('"crop_pct": 1.0', '"crop_pct": 1.0, "crop_pct": 0.9'))
    with pytest.raises(IntegrityError, match="duplicate key 'crop_pct'"):
        registry.entry(NAME)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe{}", b"[]", b"[" * 100_000, b"null", b" " * (5 << 20)], ids=range(7)
)
def test_a07_what_is_no_json_object_is_refused(zoo: Path, data: bytes) -> None:
    (zoo / f"{NAME}.json").write_bytes(data)
    with pytest.raises(IntegrityError, match="HZ-A07"):
        registry.entry(NAME)


def test_a07_an_entry_under_another_name_is_refused(zoo: Path) -> None:
    write(zoo).rename(zoo / "resnet18.multitask_path12.json")
    with pytest.raises(
        IntegrityError, match=r"(?s)HZ-A07.*'resnet18.multitask_path12', as the file is called"
    ):
        registry.entry("resnet18.multitask_path12")


@pytest.mark.parametrize(
    "file",
    ["../model.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.safetensors\n", "a..safetensors"],
)
def test_b18_a_file_name_with_folders_is_refused(zoo: Path, file: str) -> None:
    write(zoo, change=lambda raw: put(raw, "histozoo.golden.file", file))
    with pytest.raises(IntegrityError, match="without folders"):
        registry.entry(NAME)


@pytest.mark.parametrize(
    "repo", ["../x/y", "histozoo", "a/b/c", "https://example.org/a/b", "a/..", "a/b--c", "a/b\n", "a/.b"]
)
def test_b18_a_repository_of_another_form_is_refused(zoo: Path, repo: str) -> None:
    write(zoo, change=lambda raw: put(raw, "histozoo.weights.repo", repo))
    with pytest.raises(IntegrityError, match="owner/name"):
        registry.entry(NAME)


def test_c19_a_typo_is_answered_with_the_three_nearest(zoo: Path) -> None:
    for name in (NAME, "resnet18.multitask_path10", "resnet50.multitask_path11", "vit_tiny.simclr_tcga"):
        write(zoo, name)
    with pytest.raises(UsageError) as caught:
        registry.entry("resnet18.multitask_pth11")
    assert caught.value.code == "HZ-C19" and "nearest of 4 known" in caught.value.expected
    near = caught.value.expected.split("known: ")[1].split(", ")
    assert near[0] == NAME and set(near) == {NAME, "resnet18.multitask_path10", "resnet50.multitask_path11"}


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "RESNET18.multitask_path11",
        "resnet18-multitask-path11",
        "resnet18.multitask_path11_v",
        "my_bundle",
    ],
)
def test_c19_a_slip_that_breaks_the_grammar_is_answered_with_the_nearest_too(zoo: Path, name: str) -> None:
    write(zoo)
    for ask in (registry.entry, registry.resolve):
        with pytest.raises(UsageError, match=rf"(?s)HZ-C19.*{name}.*nearest of 1 known: {NAME}\n.*\./FOLDER"):
            ask(name)


def test_names_far_from_all_are_near_to_none(zoo: Path) -> None:
    write(zoo)
    assert registry.nearest("resnet18.multitask_path12") == [NAME]
    assert registry.nearest("vit_small_patch16_224.augreg_in21k") == []


def test_c19_an_empty_zoo_is_said(zoo: Path) -> None:
    with pytest.raises(UsageError, match="the zoo is empty"):
        registry.entry(NAME)


BAD_NAMES = [
    *(
        "",
        ".",
        "..",
        "../resnet18.multitask_path11",
        "/etc/passwd",
        "resnet18.multitask_path11\n",
    ),
    *(
        "resnet18.multitask_path11\0",
        "resnet18.multitask_path11@main@x",
        "resnet18.multitask_path11@" + "0" * 40,
    ),
    *(
        "rеsnet18.multitask_path11",
        "resnet18.multitask_path１１",
        "CON",
        "AUX.multitask_x",
        "con.multitask_x",
    ),
    *(
        "nul.multitask_x",
        "com1.multitask_x",
        "a" * 300,
        "resnet18.multitask_" + "a" * 90,
    ),
    *(
        "-resnet18.multitask_path11",
        "hf-hub:histozoo/x",
        "resnet18..multitask_x",
        "%2e%2e",
        "a\\b.c_d",
        "~/x.y_z",
    ),
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_c20_a_malformed_name_is_refused_before_any_disk_or_network(
    zoo: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the disk was touched")

    for word in ("glob", "open", "stat", "is_file", "is_dir", "read_bytes", "resolve"):
        monkeypatch.setattr(Path, word, touched)
    with pytest.raises(UsageError) as caught:
        registry.entry(name)
    assert caught.value.code == "HZ-C20" and caught.value.got.isascii() and "\n" not in caught.value.got
    assert ascii(name)[1:20].rstrip("'") in caught.value.got
    assert len(caught.value.got) < 150


@pytest.mark.parametrize("name", [None, 3, b"resnet18.multitask_path11", ["a"]], ids=repr)
def test_c20_what_is_no_text_is_refused(zoo: Path, name: Any) -> None:
    with pytest.raises(UsageError, match="HZ-C20"):
        registry.resolve(name)


def test_c21_one_name_in_two_folders_is_an_error_naming_both(zoo: Path, tmp_path: Path) -> None:
    write(zoo)
    write(tmp_path / "own")
    for look in (registry.names, registry.list_models, lambda: registry.entry(NAME)):
        with pytest.raises(UsageError) as caught:
            look()
        assert caught.value.code == "HZ-C21"
        assert str(zoo) in caught.value.where and str(tmp_path / "own") in caught.value.where


def test_the_same_folder_named_twice_is_one_folder(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(zoo)
    monkeypatch.setenv("HISTOZOO_ZOO", f"{zoo}:{zoo}/../zoo")
    assert registry.names() == [NAME]


def test_c23_a_withdrawn_entry_is_known_and_not_listed(zoo: Path) -> None:
    told = {"reason": "trained on test patients", "replacement": "resnet18.multitask_path12"}
    write(zoo, change=lambda raw: put(raw, "histozoo.withdrawn", told))
    assert registry.names() == [NAME] and registry.list_models() == []
    error = registry.withdrawn_error(registry.entry(NAME))
    assert (
        error.code == "HZ-C23"
        and error.got == told["reason"]
        and "resnet18.multitask_path12" in error.next_step
    )


def test_list_models_filters(zoo: Path) -> None:
    def unlike(raw: dict[str, Any]) -> None:
        for field, value in (
            ("pretrained_cfg.license", "cc-by-4.0"),
            ("histozoo.licence.id", "cc-by-4.0"),
            ("histozoo.weights.bytes", 90_000_000),
            ("num_features", 192),
            ("histozoo.contract.feature_dim", 192),
            ("histozoo.contract.mpp", None),
            ("histozoo.contract.mpp_reason", "mixed"),
        ):
            put(raw, field, value)

    write(zoo)
    other = "vit_tiny.simclr_tcga_v2"
    write(zoo, other, unlike)
    assert registry.list_models() == [NAME, other]
    assert registry.list_models("vit*") == [other]
    assert registry.list_models(recipe="multitask") == [NAME]
    assert registry.list_models(licence="CC-BY-4.0") == [other]
    assert registry.list_models(max_bytes=1_000_000) == [NAME]
    assert registry.list_models(feature_dim=192) == [other]
    assert registry.list_models(mpp=0.52) == [NAME] and registry.list_models(mpp=0.25) == []
    assert registry.list_models("vit*", recipe="multitask") == []


def test_resolve_takes_a_folder_for_a_bundle(zoo: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "anything"
    bundle.mkdir()
    shutil.move(write(zoo), bundle / "config.json")
    assert registry.resolve(bundle).name == registry.resolve(str(bundle)).name == NAME
    with pytest.raises(UsageError, match="HZ-U13"):
        registry.resolve(tmp_path)
    with pytest.raises(UsageError, match="HZ-U13"):
        registry.resolve("../nowhere")


def test_importing_the_package_costs_no_torch_and_no_time(fresh_python: Any) -> None:
    code = (
        "import sys, time; t = time.process_time(); import histozoo; s = time.process_time() - t; names = histozoo.list_models();"
        "heavy = {'torch', 'timm', 'numpy', 'huggingface_hub', 'transformers', 'PIL', 'safetensors'} & set(sys.modules);"
        "assert not heavy, heavy; assert s < 0.1, s; assert 'load' in dir(histozoo); print(histozoo.__version__)"
    )
    assert fresh_python(code).stdout.strip() == "0.1.0"


def test_a_word_that_does_not_exist_is_an_attribute_error() -> None:
    import histozoo

    with pytest.raises(AttributeError, match="has no attribute 'lood'"):
        histozoo.lood  # noqa: B018


def test_the_public_words_stay_functions_whatever_is_imported() -> None:
    import importlib

    import histozoo
    from histozoo import registry as room

    for module in ("registry", "loading", "contract"):
        importlib.import_module(f"histozoo.{module}")
    assert histozoo.entry is room.entry and callable(histozoo.load) and callable(histozoo.preprocess)


def test_a_misspelt_word_of_the_package_lets_python_name_the_right_one() -> None:
    import histozoo

    with pytest.raises(AttributeError, match="no attribute 'laod'") as caught:
        _ = histozoo.laod
    assert caught.value.name == "laod" and caught.value.obj is histozoo and "load" in dir(caught.value.obj)
