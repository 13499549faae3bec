"""histozoo.load: the published features bit for bit, from every place, with timm's options, and never anything else."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

import histozoo
from histozoo import artifact, durable, loading, registry, sources
from histozoo.errors import IntegrityError, UsageError
from tests.fakes.zoo import as_zoo, edit, make_bundle, random_model, tiny_zoo

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

RESNET, VIT, CONVNEXT = (f"test_{arch}.multitask_tiny" for arch in ("resnet", "vit", "convnext"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three models, made once; each test gets the two variables that name it."""
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOZOO_ZOO", "")
        patch.setenv("HISTOZOO_WEIGHTS_DIR", "")
        tiny_zoo(folder)
    return folder


@pytest.fixture
def zoo(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HISTOZOO_ZOO", str(made))
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(made / "dist"))
    return made


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy of one bundle, to be damaged."""
    return Path(shutil.copytree(made / "dist" / RESNET, tmp_path / RESNET))


def golden(folder: Path) -> tuple[Any, Any]:
    from safetensors.torch import load_file

    tensors = load_file(folder / "golden.safetensors")
    return tensors["pixels_BCHW"], tensors["features_BD"]


def features(model: Any, x_BCHW: Any) -> Any:
    with torch.no_grad():
        return model(x_BCHW)


def rewrite(bundle: Path, change: Any, *, told: bool = True) -> None:
    """Changes the weights' tensors and makes the entry agree with the new file, as an unsigned local bundle would."""
    from safetensors.torch import load_file

    tensors = load_file(bundle / "model.safetensors")
    change(tensors)
    raw = json.loads((bundle / "config.json").read_text())
    path = bundle / "model.safetensors"
    digest = artifact.save_canonical(tensors, path, artifact.weights_metadata(raw) if told else None)
    facts = {"sha256": digest, "bytes": path.stat().st_size}
    edit(bundle / "config.json", lambda raw: raw["histozoo"]["weights"].update(facts))


@pytest.mark.parametrize("name", [RESNET, VIT, CONVNEXT])
def test_load_gives_the_golden_features(zoo: Path, name: str) -> None:
    x_BCHW, f_BD = golden(zoo / "dist" / name)
    model = histozoo.load(name)
    assert not model.training and torch.equal(features(model, x_BCHW), f_BD)
    assert all(
        p.requires_grad and p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters()
    )
    assert model.pretrained_cfg["tag"] == "multitask_tiny" and "file" not in model.pretrained_cfg
    assert torch.equal(features(histozoo.load(zoo / "dist" / name), x_BCHW), f_BD)


@pytest.mark.parametrize("arch", timm.list_models("test_*"))
def test_every_architecture_that_timm_tests_loads_bit_equal(arch: str, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, "multitask_tiny", arch)
    x_BCHW, f_BD = golden(bundle)
    model = histozoo.load(bundle)
    assert torch.equal(features(model, x_BCHW), f_BD)
    assert not [n for n, t in [*model.named_parameters(), *model.named_buffers()] if t.is_meta]


def test_buffers_outside_the_state_dict_are_computed(tmp_path: Path) -> None:
    arch = "test_vit_relpos"
    model = random_model(arch)
    assert len(list(model.buffers())) > len([k for k in model.state_dict() if "relative_position_index" in k])
    bundle = make_bundle(tmp_path, "multitask_tiny", arch)
    x_BCHW, f_BD = golden(bundle)
    assert torch.equal(features(histozoo.load(bundle), x_BCHW), f_BD)


def test_a_mask_made_of_zeros_sends_the_load_to_a_normal_build(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, built = timm.create_model, []

    def masked(*args: Any, **kwargs: Any) -> Any:
        model = real(*args, **kwargs)
        mask = torch.zeros(4)
        mask[1:] = 1
        model.register_buffer("mask", mask, persistent=False)
        built.append(mask.device.type)
        return model

    monkeypatch.setattr(timm, "create_model", masked)
    x_BCHW, f_BD = golden(zoo / "dist" / RESNET)
    model = histozoo.load(RESNET)
    assert built == ["meta", "cpu"] and torch.equal(model.mask, torch.tensor([0.0, 1.0, 1.0, 1.0]))
    assert torch.equal(features(model, x_BCHW), f_BD)


def test_the_garbage_collector_is_as_it_was(zoo: Path) -> None:
    import gc

    for enabled in (True, False):
        gc.enable() if enabled else gc.disable()
        try:
            histozoo.load(RESNET)
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


def test_a_model_that_cannot_be_built_without_values_is_built_with_them(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = timm.create_model

    def needs_values(*args: Any, **kwargs: Any) -> Any:
        torch.zeros(1).item()  # raises on the meta device
        return real(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", needs_values)
    x_BCHW, f_BD = golden(zoo / "dist" / RESNET)
    assert torch.equal(features(histozoo.load(RESNET), x_BCHW), f_BD)


def test_the_model_can_be_trained_and_the_file_stays(zoo: Path) -> None:
    before = (zoo / "dist" / CONVNEXT / "model.safetensors").read_bytes()
    model = histozoo.load(CONVNEXT, num_classes=3).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 96, 96)).square().mean().backward()
    optimizer.step()
    assert (zoo / "dist" / CONVNEXT / "model.safetensors").read_bytes() == before
    frozen = histozoo.load(CONVNEXT)
    with torch.no_grad():
        next(frozen.parameters()).add_(1)
    assert (zoo / "dist" / CONVNEXT / "model.safetensors").read_bytes() == before


def test_loading_in_threads_gives_each_its_own_right_model(zoo: Path) -> None:
    x_BCHW, f_BD = golden(zoo / "dist" / RESNET)
    models: list[Any] = []
    others: list[Any] = []
    threads = [threading.Thread(target=lambda: models.append(histozoo.load(RESNET))) for _ in range(3)]
    threads += [threading.Thread(target=lambda: others.append(torch.nn.Linear(64, 64))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(models) == 3 and all(torch.equal(features(m, x_BCHW), f_BD) for m in models)
    assert all(not p.is_meta and p.std() > 0 for other in others for p in other.parameters())


# -- timm's own options


@pytest.mark.parametrize("name", [RESNET, VIT, CONVNEXT])
def test_a_new_head_is_initialised_and_the_trunk_is_the_published_one(zoo: Path, name: str) -> None:
    x_BCHW, f_BD = golden(zoo / "dist" / name)
    torch.manual_seed(0)
    model = histozoo.load(name, num_classes=7)
    assert features(model, x_BCHW).shape == (2, 7)
    assert torch.equal(features_of_trunk(model, x_BCHW), f_BD)
    head = model.get_classifier()
    assert not head.weight.is_meta and head.weight.isfinite().all() and head.weight.abs().max() < 2
    torch.manual_seed(0)
    by_timm = timm.create_model(name.split(".")[0], num_classes=7).get_classifier()
    assert torch.equal(head.weight, by_timm.weight), "the head is initialised as timm initialises it"


def features_of_trunk(model: Any, x_BCHW: Any) -> Any:
    with torch.no_grad():
        return model.forward_head(model.forward_features(x_BCHW), pre_logits=True)


@pytest.mark.parametrize("name", [RESNET, VIT, CONVNEXT])
@pytest.mark.parametrize(
    "options",
    [
        {"in_chans": 1},
        {"features_only": True},
        {"features_only": True, "out_indices": (1, 2)},
        {"global_pool": ""},
        {"drop_rate": 0.1},
    ],
    ids=str,
)
def test_timm_options_give_what_stock_timm_gives(zoo: Path, name: str, options: dict[str, Any]) -> None:
    x_BCHW = golden(zoo / "dist" / name)[0][:, : options.get("in_chans", 3)]
    ours = features(histozoo.load(name, **options), x_BCHW)
    stock = timm.create_model(f"local-dir:{zoo / 'dist' / name}", pretrained=True, **options).eval()
    theirs = features(stock, x_BCHW)
    if isinstance(theirs, list):
        assert len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    else:
        assert torch.equal(ours, theirs)


def test_another_image_size_is_resampled_as_timm_does(zoo: Path) -> None:
    x_BCHW = torch.rand(1, 3, 96, 96)
    stock = timm.create_model(f"local-dir:{zoo / 'dist' / VIT}", pretrained=True, img_size=96).eval()
    assert torch.equal(features(histozoo.load(VIT, img_size=96), x_BCHW), features(stock, x_BCHW))


def test_a05_an_option_that_would_leave_more_than_the_head_random_is_refused(
    zoo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(IntegrityError) as caught:
        histozoo.load(VIT, num_classes=5, global_pool="avg")
    assert caught.value.code == "HZ-A05"
    assert (
        "fc_norm.weight" in caught.value.got
        and "norm.weight" in caught.value.got
        and "head." in caught.value.expected
    )


def test_pretrained_false_reads_no_weights(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "locate", lambda *a, **k: pytest.fail("weights were looked for"))
    model = histozoo.load(RESNET, pretrained=False, num_classes=4)
    assert model(torch.rand(1, 3, 96, 96)).shape == (1, 4)


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("options", [{"colour": "red"}, {"num_classes": -1}])
def test_an_option_that_timm_does_not_take_is_named(
    zoo: Path, options: dict[str, Any], pretrained: bool
) -> None:
    with pytest.raises(UsageError, match="HZ-U69") as caught:
        histozoo.load(RESNET, pretrained=pretrained, **options)
    assert next(iter(options)) in caught.value.got and "in_chans" in caught.value.expected


def test_model_args_of_the_entry_are_used_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, VIT)
    edit(bundle / "config.json", lambda raw: raw["model_args"].update(depth=3))
    with pytest.raises(IntegrityError, match="HZ-A05"):
        histozoo.load(bundle)


# -- damage: nothing of it loads, whatever the options


OPTIONS: list[dict[str, Any]] = [{}, {"num_classes": 5}, {"features_only": True}, {"in_chans": 1}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a02_one_bit_changed_does_not_load(bundle: Path, options: dict[str, Any]) -> None:
    path = bundle / "model.safetensors"
    histozoo.load(bundle)  # stamped
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="HZ-A02"):
        histozoo.load(bundle, **options)


DAMAGE: dict[str, tuple[Any, str]] = {
    "missing key": (lambda t: t.pop("bn1.weight"), "HZ-A05"),
    "missing stage": (lambda t: [t.pop(k) for k in list(t) if k.startswith("layer4")], "HZ-A05"),
    "extra key": (lambda t: t.update(extra=torch.zeros(1)), "HZ-A05"),
    "a head": (lambda t: t.update({"fc.weight": torch.randn(5, 96), "fc.bias": torch.zeros(5)}), "HZ-A05"),
    "prefix": (lambda t: [t.update({f"backbone.{k}": t.pop(k)}) for k in list(t)], "HZ-A05"),
    "no key that matches": (lambda t: (t.clear(), t.update(a=torch.zeros(1))), "HZ-A05"),
    "shape": (lambda t: t.update({"bn1.weight": torch.ones(31)}), "HZ-A03"),
    "fp16": (lambda t: t.update({k: v.half() for k, v in t.items() if v.is_floating_point()}), "HZ-A03"),
    "NaN": (lambda t: t["layer4.0.conv1.weight"][0, 0].fill_(float("nan")), "HZ-A06"),
    "zeros": (lambda t: t["layer4.0.conv1.weight"].zero_(), "HZ-A06"),
}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("change, code", DAMAGE.values(), ids=DAMAGE)
def test_a03_a05_a06_damage_that_the_hash_agrees_with_does_not_load(
    bundle: Path, change: Any, code: str, options: dict[str, Any]
) -> None:
    rewrite(bundle, change)
    with pytest.raises(IntegrityError) as caught:
        histozoo.load(bundle, **options)
    assert caught.value.code == code and str(bundle) in caught.value.where


def test_a05_an_entry_that_names_another_sha256_does_not_load(bundle: Path) -> None:
    edit(bundle / "config.json", lambda raw: raw["histozoo"]["weights"].update(sha256="ab" * 32))
    with pytest.raises(IntegrityError, match="HZ-A02"):
        histozoo.load(bundle)


def test_a06_a_stamp_of_the_hash_alone_does_not_spare_the_values(bundle: Path) -> None:
    rewrite(bundle, lambda t: t["layer4.0.conv1.weight"].zero_())
    entry = registry.resolve(bundle)
    artifact.verify(bundle / "model.safetensors", entry.weights.sha256, entry.weights.bytes)
    for _ in range(2):
        with pytest.raises(IntegrityError, match="HZ-A06"):
            histozoo.load(bundle)


def test_a08_the_right_hash_with_another_pipeline_does_not_load(bundle: Path) -> None:
    def bilinear(raw: dict[str, Any]) -> None:
        raw["pretrained_cfg"]["interpolation"] = raw["histozoo"]["contract"]["kernel"] = "bilinear"

    edit(bundle / "config.json", bilinear)
    with pytest.raises(IntegrityError, match=r"(?s)HZ-A08.*kernel.*'bilinear'.*'bicubic'"):
        histozoo.load(bundle)


def test_a08_weights_that_state_no_pipeline_do_not_load(bundle: Path) -> None:
    rewrite(bundle, lambda t: None, told=False)
    with pytest.raises(IntegrityError, match="HZ-A08"):
        histozoo.load(bundle)


@pytest.mark.parametrize("field, value", [("prefix_tokens", 1), ("feature_dim", 97), ("pooling", "max")])
def test_a08_a_contract_that_the_architecture_does_not_keep_is_refused(
    bundle: Path, field: str, value: Any
) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["histozoo"]["contract"][field] = value
        if field == "feature_dim":
            raw["num_features"] = value
        if field == "pooling":
            raw["global_pool"] = "max"
            raw["model_args"] = {}

    edit(bundle / "config.json", change)
    rewrite(bundle, lambda t: None)
    with pytest.raises(IntegrityError, match=rf"(?s)HZ-A08.*{field}"):
        histozoo.load(bundle)


@pytest.mark.parametrize("what", ["empty", "html", "lfs", "missing"])
def test_a01_what_is_no_weights_file_does_not_load(bundle: Path, what: str) -> None:
    path = bundle / "model.safetensors"
    data = {"empty": b"", "html": b"<html>", "lfs": b"version https://git-lfs.github.com/spec/v1\n"}
    path.unlink() if what == "missing" else path.write_bytes(data[what])
    with pytest.raises(IntegrityError, match="HZ-U14" if what == "missing" else "HZ-A01"):
        histozoo.load(bundle)


def test_c23_a_withdrawn_model_loads_only_on_request(bundle: Path, tmp_path: Path) -> None:
    told = {"reason": "trained on test patients", "replacement": None}
    edit(bundle / "config.json", lambda raw: raw["histozoo"].update(withdrawn=told))
    with pytest.raises(IntegrityError, match=r"(?s)HZ-C23.*trained on test patients.*allow_withdrawn"):
        histozoo.load(bundle)
    assert histozoo.load(bundle, allow_withdrawn=True).num_features == 96


# -- places


def test_the_mirror_folder_comes_before_the_embedded_file(zoo: Path) -> None:
    assert sources.locate(registry.entry(RESNET))[0] == zoo / "dist" / RESNET / "model.safetensors"


def test_embedded_weights_give_the_same_bits(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HISTOZOO_WEIGHTS_DIR")
    path, published = sources.locate(registry.entry(RESNET))
    assert path == zoo / f"{RESNET}.safetensors" and published.dtype == "float16"
    x_BCHW, f_BD = golden(zoo / "dist" / RESNET)
    model = histozoo.load(RESNET)
    assert torch.equal(features(model, x_BCHW), f_BD) and next(model.parameters()).dtype == torch.float32
    assert torch.equal(features_of_trunk(histozoo.load(RESNET, num_classes=2), x_BCHW), f_BD)


def test_a_source_folder_is_the_only_place_looked_at(zoo: Path, bundle: Path, tmp_path: Path) -> None:
    assert sources.locate(registry.entry(RESNET), folder=bundle)[0] == bundle / "model.safetensors"
    histozoo.load(RESNET, source=bundle)
    with pytest.raises(IntegrityError, match=r"(?s)HZ-U14.*lacks model.safetensors"):
        histozoo.load(RESNET, source=tmp_path)
    with pytest.raises(IntegrityError, match="HZ-A0"):
        histozoo.load(RESNET, source=zoo / "dist" / VIT)


def test_a_damaged_mirror_is_an_error_and_not_passed_over(
    zoo: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (bundle / "model.safetensors").read_bytes()
    (bundle / "model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(bundle.parent))
    with pytest.raises(IntegrityError, match="HZ-A02"):
        histozoo.load(RESNET)


def test_golden_tensors_are_found_beside_the_entry(zoo: Path, bundle: Path, tmp_path: Path) -> None:
    entry = registry.entry(RESNET)
    assert sources.locate(entry, entry.golden)[0] == zoo / "dist" / RESNET / "golden.safetensors"
    alone = registry.read_entry(as_zoo(bundle, tmp_path / "alone"))
    shutil.copy(bundle / "golden.safetensors", tmp_path / "alone" / f"{RESNET}.golden.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HISTOZOO_WEIGHTS_DIR")
        assert sources.locate(alone, alone.golden)[0].parent == tmp_path / "alone"


def test_a_name_that_is_no_name_and_no_folder_is_said(zoo: Path) -> None:
    with pytest.raises(UsageError, match=rf"(?s)HZ-C19.*{RESNET}"):
        histozoo.load("test_resnet.multitask_tinyy")
    with pytest.raises(UsageError, match="HZ-C20"):
        histozoo.load("test_resnet.multitask_tiny\n")
    with pytest.raises(UsageError, match="HZ-U13"):
        histozoo.load("../../etc")


def test_b12_weights_replaced_while_they_are_read_are_read_again(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = bundle / "model.safetensors", artifact.check_contract
    good = path.read_bytes()
    swaps = [good[:-1] + bytes([good[-1] ^ 1]), good, good]

    def replaced(*args: Any) -> None:
        """Another process puts other bytes in the place of the file between its hash and its use."""
        real(*args)
        if swaps:
            durable.write_bytes(path, swaps.pop(0))

    monkeypatch.setattr(artifact, "check_contract", replaced)
    with pytest.raises(IntegrityError, match="HZ-A02"):
        histozoo.load(bundle)
    path.write_bytes(good)
    x_BCHW, f_BD = golden(bundle)
    assert torch.equal(features(histozoo.load(bundle), x_BCHW), f_BD) and not swaps
    swaps[:] = [good] * 9
    with pytest.raises(IntegrityError, match="HZ-B12"):
        histozoo.load(bundle)


def test_a_second_load_reads_the_values_no_more(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    histozoo.load(bundle)
    for word in ("check_finite",):
        monkeypatch.setattr(artifact, word, lambda *a, **k: pytest.fail("values were read again"))
    histozoo.load(bundle)
    monkeypatch.setenv("HISTOZOO_VERIFY", "always")
    with pytest.raises(pytest.fail.Exception, match="read again"):
        histozoo.load(bundle)


def test_preprocess_is_the_transform_of_the_entry(zoo: Path, made: Path) -> None:
    from PIL import Image
    from safetensors.torch import load_file

    tensors = load_file(made / "dist" / RESNET / "golden.safetensors")
    tile = Image.fromarray(tensors["tiles_BHWC"][0].numpy())
    for name in (RESNET, made / "dist" / RESNET):
        assert torch.equal(histozoo.preprocess(name)(tile), tensors["pixels_BCHW"][0])


def test_nothing_is_left_to_the_random_generator(zoo: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loading.load(RESNET)
    assert torch.equal(torch.get_rng_state(), before)


def test_tensors_are_aligned_as_torchs_own_so_that_no_last_bit_differs(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    bundle = make_bundle(
        tmp_path, "multitask_tiny", "test_nfnet"
    )  # gave other bits from memory that was not aligned
    model = histozoo.load(bundle)
    assert all(t.data_ptr() % 64 == 0 for t in [*model.parameters(), *model.buffers()])
    path, raw = bundle / "model.safetensors", json.loads((bundle / "config.json").read_text())
    header = artifact.read_header(path)
    mapped = [n for n, i in header.tensors.items() if (header.data_start + i.begin) % 64 == 0]
    assert sum(header.tensors[n].end - header.tensors[n].begin for n in mapped) > 0.9 * path.stat().st_size
    save_file(load_file(path), path, metadata=artifact.weights_metadata(raw))  # laid out by somebody else
    facts = {"sha256": artifact.sha256_file(path), "bytes": path.stat().st_size}
    edit(bundle / "config.json", lambda raw: raw["histozoo"]["weights"].update(facts))
    x_BCHW, f_BD = golden(bundle)
    assert torch.equal(features(histozoo.load(bundle), x_BCHW), f_BD)


def test_u10_a_mirror_folder_that_is_not_there_is_said(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOZOO_WEIGHTS_DIR", str(zoo / "nowhere"))
    with pytest.raises(UsageError, match=r"(?s)HZ-U10 .*HISTOZOO_WEIGHTS_DIR does not exist.*nowhere"):
        histozoo.load(RESNET)
