"""timm knows our names, whichever is imported first, and everything of its own is as it was."""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from histozoo import registry, timm_plugin
from histozoo.errors import IntegrityError
from tests.fakes.zoo import as_zoo, edit, make_bundle, tiny_zoo

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from timm.models import _registry as timm_registry  # noqa: E402

RESNET, VIT = "test_resnet.multitask_tiny", "test_vit.multitask_tiny"
TABLES = (
    *(
        "_module_to_models",
        "_model_to_module",
        "_model_entrypoints",
        "_model_has_pretrained",
        "_model_default_cfgs",
    ),
    *("_model_pretrained_cfgs", "_model_with_tags", "_deprecated_models"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOZOO_ZOO", "")
        patch.setenv("HISTOZOO_WEIGHTS_DIR", "")
        tiny_zoo(folder)
    return folder


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """timm's registry as copies for one test; gives what it was."""
    before = {table: copy.deepcopy(getattr(timm_registry, table)) for table in TABLES}
    for table in TABLES:
        monkeypatch.setattr(timm_registry, table, copy.deepcopy(before[table]))
    yield before


@pytest.fixture
def zoo(made: Path, tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "ZOO", made)
    monkeypatch.delenv("HISTOZOO_ZOO", raising=False)
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(made / "dist"))
    for table in ("_model_pretrained_cfgs", "_model_with_tags"):
        assert RESNET not in getattr(timm_registry, table)
    return made


def without_ours(tables: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """timm's tables with our names taken out again, as plain values."""
    tables = copy.deepcopy(tables)
    for name in names:
        arch, tag = name.split(".")
        tables["_model_pretrained_cfgs"].pop(name, None)
        tables["_model_has_pretrained"].discard(name)
        if name in tables["_model_with_tags"][arch]:
            tables["_model_with_tags"][arch].remove(name)
        if tag in tables["_model_default_cfgs"][arch].cfgs:
            tables["_model_default_cfgs"][arch].tags.remove(tag)
            del tables["_model_default_cfgs"][arch].cfgs[tag]
    return tables


def test_only_our_names_are_added_and_timms_own_are_unchanged(zoo: Path, tables: dict[str, Any]) -> None:
    names = timm_plugin.register()
    assert names == registry.names() and len(names) == 3
    now = {table: getattr(timm_registry, table) for table in TABLES}
    assert now != tables
    assert without_ours(now, names) == without_ours(tables, names)
    for name in names:
        arch = name.split(".")[0]
        assert now["_model_default_cfgs"][arch].tags[0] == tables["_model_default_cfgs"][arch].tags[0]
        assert now["_model_default_cfgs"][arch].tags[-1] == name.split(".")[1]
        assert timm.get_pretrained_cfg(arch).tag != "multitask_tiny", (
            "a bare architecture never means our tag"
        )
    assert set(timm.list_models("*.multitask_tiny", pretrained=True)) == set(names)
    assert timm_plugin.register() == [], "a second time adds nothing"


def test_timm_gives_the_golden_features_with_its_own_options(zoo: Path) -> None:
    from safetensors.torch import load_file

    timm_plugin.register()
    for name in registry.names():
        tensors = load_file(zoo / "dist" / name / "golden.safetensors")
        model = timm.create_model(name, pretrained=True).eval()
        with torch.no_grad():
            assert torch.equal(model(tensors["pixels_BCHW"]), tensors["features_BD"])
        config = timm.data.resolve_model_data_config(model)
        assert list(config["mean"]) == registry.entry(name).contract.mean and config["crop_pct"] == 1.0
    assert timm.create_model(RESNET, pretrained=True, num_classes=3).num_classes == 3
    assert timm.create_model(RESNET, pretrained=True, in_chans=1)(torch.rand(1, 1, 96, 96)).shape == (1, 96)
    assert (
        len(
            timm.create_model(RESNET, pretrained=True, features_only=True, out_indices=(1, 2))(
                torch.rand(1, 3, 96, 96)
            )
        )
        == 2
    )


def test_nothing_is_read_until_weights_are_asked_for(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from histozoo import loading

    timm_plugin.register()
    monkeypatch.setattr(loading, "checked_weights", lambda *a, **k: pytest.fail("weights were read"))
    timm.create_model(RESNET, pretrained=False)
    cfg = timm.get_pretrained_cfg(RESNET)
    assert cfg.to_dict()["file"] is cfg.file and repr(cfg.file) == f"WeightsFile('{RESNET}')"
    with pytest.raises(pytest.fail.Exception, match="weights were read"):
        timm.create_model(RESNET, pretrained=True)


def test_a_load_by_timm_checks_the_file_once(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from histozoo import loading

    real, calls = loading.checked_weights, []
    monkeypatch.setattr(loading, "checked_weights", lambda entry: calls.append(entry.name) or real(entry))
    timm_plugin.register()
    timm.create_model(RESNET, pretrained=True)
    timm.create_model(RESNET, pretrained=True)
    assert calls == [RESNET]


@pytest.mark.parametrize("options", [{}, {"num_classes": 3}, {"features_only": True}], ids=str)
def test_a02_timm_refuses_a_changed_file_as_every_door_does(
    zoo: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(zoo / "dist" / RESNET, tmp_path / RESNET))
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(tmp_path))
    timm_plugin.register()
    timm.create_model(RESNET, pretrained=True, **options)
    data = (bundle / "model.safetensors").read_bytes()
    (bundle / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="HZ-A02"):
        timm.create_model(RESNET, pretrained=True, **options)


def test_c23_timm_refuses_a_withdrawn_model(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_zoo(zoo / "dist" / RESNET, tmp_path)
    edit(path, lambda raw: raw["histozoo"].update(withdrawn={"reason": "bad", "replacement": None}))
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    timm_plugin.register()
    with pytest.raises(IntegrityError, match="HZ-C23"):
        timm.create_model(RESNET, pretrained=True)


def test_c21_a_name_that_timm_has_already_is_left_alone_and_said(zoo: Path) -> None:
    theirs = copy.copy(timm_registry._model_default_cfgs["test_resnet"].default)
    timm_registry._model_pretrained_cfgs[RESNET] = theirs
    with pytest.warns(UserWarning, match=rf"timm will not know {RESNET}: HZ-C21"):
        names = timm_plugin.register()
    assert RESNET not in names and len(names) == 2
    assert timm_registry._model_pretrained_cfgs[RESNET] is theirs


def test_a_broken_entry_keeps_only_itself_out(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in registry.names():
        as_zoo(zoo / "dist" / name, tmp_path)
    edit(tmp_path / f"{VIT}.json", lambda raw: raw.pop("architecture"))
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    with pytest.warns(UserWarning, match=rf"timm will not know {VIT}: HZ-A07"):
        assert len(timm_plugin.register()) == 2


def test_an_architecture_that_this_timm_lacks_is_said(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_zoo(zoo / "dist" / RESNET, tmp_path)
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    del timm_registry._model_default_cfgs["test_resnet"]
    with pytest.warns(UserWarning, match=r"(?s)does not know the architecture.*update timm"):
        assert timm_plugin.register() == []


@pytest.mark.parametrize("table", ["_model_default_cfgs", "_model_pretrained_cfgs", "_model_with_tags"])
def test_a_timm_that_moved_its_registry_costs_the_names_only(
    zoo: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import histozoo

    monkeypatch.delattr(timm_registry, table)
    with pytest.warns(UserWarning, match=r"HZ-U16 .*use histozoo.load"):
        assert timm_plugin.register() == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm_registry, table, {}, raising=False)
        assert registry.names() and callable(histozoo.load)


def test_a_zoo_folder_that_is_gone_does_not_break_timm(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOZOO_ZOO", "/nowhere")
    with pytest.warns(UserWarning, match=r"no histozoo names in timm: HZ-U10"):
        assert timm_plugin.register() == []


def test_a08_an_entry_whose_arguments_a_tag_cannot_carry_is_refused(
    tables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    import histozoo
    from histozoo import artifact

    bundle = make_bundle(tmp_path / "dist", VIT)
    # Whatever changes the model and not its tensors would be another model under the same tag.
    edit(bundle / "config.json", lambda raw: raw["model_args"].update(dynamic_img_pad=True))
    raw = registry.read_entry(bundle / "config.json").raw
    path = bundle / "model.safetensors"
    digest = artifact.save_canonical(load_file(path), path, artifact.weights_metadata(raw))
    facts = {"sha256": digest, "bytes": path.stat().st_size}
    edit(bundle / "config.json", lambda raw: raw["histozoo"]["weights"].update(facts))
    as_zoo(bundle, tmp_path)
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(tmp_path / "dist"))
    assert histozoo.load(VIT)(torch.rand(1, 3, 96, 96)).shape == (1, 64)
    timm_plugin.register()
    with pytest.raises(IntegrityError, match=r"(?s)HZ-A08.*model_args.*dynamic_img_pad.*histozoo.load"):
        timm.create_model(VIT, pretrained=True)


def test_registering_warns_of_nothing_when_all_is_well(zoo: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(timm_plugin.register()) == 3


ORDERS = """
import sys
{first}
{second}
import timm, torch
from timm.models import _registry as r
assert type(sys.modules["timm.models"].__loader__).__module__ != "histozoo.timm_hook"
assert not any("histozoo" in type(f).__module__ for f in sys.meta_path)
for name in sys.argv[1:]:
    assert timm.create_model(name, pretrained=True).pretrained_cfg["tag"] == "multitask_tiny"
    assert name in timm.list_pretrained()
print(len(timm.list_models("*.multitask_tiny", pretrained=True)))
"""


@pytest.mark.parametrize(
    "first, second", [("import histozoo", "import timm"), ("import timm", "import histozoo")]
)
def test_either_import_order_in_a_fresh_process(
    made: Path, fresh_python: Any, first: str, second: str
) -> None:
    env = {"HISTOZOO_ZOO": str(made), "HISTOZOO_WEIGHTS_DIR": str(made / "dist")}
    done = fresh_python(ORDERS.format(first=first, second=second), RESNET, VIT, env=env)
    assert done.stdout.split() == ["3"]


WRONG = """
import sys, traceback
{first}
{second}
for wrong in ("test_resnet.multitask_tinny", "test_resnt.multitask_tiny", "resnet18.a1_in2k"):
    for ask in (lambda: timm.create_model(wrong, pretrained=True), lambda: timm.models.create_model(model_name=wrong)):
        try:
            ask()
        except RuntimeError as error:
            print(wrong, "|", error, "|", *getattr(error, "__notes__", ["no note"]))
"""


@pytest.mark.parametrize(
    "first, second", [("import histozoo", "import timm"), ("import timm", "import histozoo")]
)
def test_c19_timms_error_for_a_wrong_name_notes_our_nearest_and_stays_timms(
    made: Path, fresh_python: Any, first: str, second: str
) -> None:
    env = {"HISTOZOO_ZOO": str(made), "HISTOZOO_WEIGHTS_DIR": str(made / "dist")}
    told = fresh_python(WRONG.format(first=first, second=second), env=env).stdout.splitlines()
    assert len(told) == 6 and told[::2] == told[1::2]
    tag, architecture, theirs = told[::2]
    assert (
        "| Invalid pretrained tag (multitask_tinny) for test_resnet. | histozoo's nearest names: test_resnet."
        in tag
    )
    assert (
        "| Unknown model (test_resnt) | histozoo's nearest names: test_resnet.multitask_tiny" in architecture
    )
    assert theirs.endswith("| no note") and "Invalid pretrained tag (a1_in2k)" in theirs


def test_an_error_about_a_known_name_gets_no_note(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from histozoo import loading

    def fail(*_: object) -> None:
        raise RuntimeError("of another kind")

    timm_plugin.register()
    monkeypatch.setattr(loading, "checked_weights", fail)
    with pytest.raises(RuntimeError, match="of another kind") as caught:
        timm.create_model(RESNET, pretrained=True)
    assert not hasattr(caught.value, "__notes__")
