"""Features are computed once, found again under what decides them, and never believed when damaged."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import numpy as np
import pytest

from histozoo.errors import IntegrityError, UsageError
from histozoo.evaluate import feature_cache
from histozoo.evaluate.encoders import Encoder, encoder
from histozoo.evaluate.feature_cache import cached_features, key_facts, verified
from histozoo.evaluate.labelled import LabelledTiles

TWIN = "random:test_resnet"


def task(n: int = 6, px: int = 32, seed: int = 0, **changes) -> LabelledTiles:
    rng = np.random.default_rng(seed)
    facts = {
        "task": "a", "lineage": "a", "classes": ("x", "y"), "labels_N": np.arange(n) % 2, "groups_N": np.arange(n),
        "tiles_NHWC": rng.integers(256, size=(n, px, px, 3), dtype=np.uint8), "fingerprint": "f" * 64,
    }  # fmt: skip
    return LabelledTiles(**facts | changes)


@pytest.fixture
def counted(monkeypatch):
    """How often features were computed."""
    calls = []
    for name in ("features", "block_features"):
        inner = getattr(Encoder, name)
        monkeypatch.setattr(
            Encoder, name, lambda self, *a, _f=inner, **k: calls.append(self.name) or _f(self, *a, **k)
        )
    return calls


def files(folder):
    return sorted(folder.glob("*.safetensors"))


def test_features_are_computed_once_and_are_those_of_the_encoder(tmp_path, counted):
    twin = encoder(TWIN, tile_px=32)
    first = cached_features(twin, task(), cache=tmp_path)
    again = cached_features(encoder(TWIN, tile_px=32), task(), cache=tmp_path)
    assert len(counted) == 1 and len(files(tmp_path)) == 1
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, twin.features(task().tiles_NHWC), atol=1e-6)
    assert again.dtype == np.float32


def test_every_block_is_kept_in_order(tmp_path, counted):
    twin = encoder(TWIN, tile_px=32)
    first, again = (cached_features(twin, task(), cache=tmp_path, blocks=True) for _ in range(2))
    assert len(counted) == 1 and list(first) == list(again) and len(first) >= 4
    for name, f_ND in twin.block_features(task().tiles_NHWC).items():
        np.testing.assert_allclose(again[name], f_ND, atol=1e-6)
    assert list(cached_features(twin, task(), cache=tmp_path, blocks=True, level="block")) != list(first)


def test_whatever_decides_the_features_decides_the_file(tmp_path, monkeypatch):
    twin, whole = encoder(TWIN, tile_px=32), task()
    part = task(tiles_NHWC=whole.tiles_NHWC[:4], labels_N=np.arange(4) % 2, groups_N=np.arange(4))
    base = key_facts(twin, whole)
    others = [
        key_facts(encoder(f"{TWIN}@1", tile_px=32), whole),
        key_facts(dataclasses.replace(twin, mean=(0.1, 0.2, 0.3)), whole),
        key_facts(twin, part),
        key_facts(twin, task(tiles_NHWC=whole.tiles_NHWC[::-1])),
        key_facts(twin, task(fingerprint="0" * 64)),
        key_facts(twin, whole, taken="stage"),
        key_facts(twin, whole, device="cuda:0"),
    ]
    monkeypatch.setattr(feature_cache, "VERSION", 99)
    others.append(key_facts(twin, whole))
    texts = {str(facts) for facts in [base, *others]}
    assert len(texts) == 1 + len(others)
    assert key_facts(twin, whole, device="cuda:0") == key_facts(twin, whole, device="cuda:1")


def test_i66_a_flipped_bit_anywhere_is_seen_and_the_features_are_computed_again(tmp_path, counted):
    twin = encoder(TWIN, tile_px=32)
    expected = cached_features(twin, task(), cache=tmp_path)
    [path] = files(tmp_path)
    facts, good = key_facts(twin, task()), path.read_bytes()
    rng = np.random.default_rng(0)
    for position in [*rng.integers(len(good), size=40), 3, len(good) - 1]:
        bad = bytearray(good)
        bad[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        with pytest.raises(IntegrityError, match="HZ-I66"):
            verified(path, facts)
    with pytest.warns(UserWarning, match="HZ-I66 a file of features is damaged"):
        np.testing.assert_array_equal(cached_features(twin, task(), cache=tmp_path), expected)
    assert len(counted) == 2 and path.read_bytes() == good


@pytest.mark.parametrize("content", [b"", b"{}", b"<html>", b"\0" * 100])
def test_i66_what_is_no_file_of_features_is_replaced(tmp_path, content):
    twin = encoder("colour-histogram", tile_px=32)
    expected = cached_features(twin, task(), cache=tmp_path)
    [path] = files(tmp_path)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="HZ-I66"):
        np.testing.assert_array_equal(cached_features(twin, task(), cache=tmp_path), expected)


def test_i66_features_of_something_else_under_the_name_are_not_taken(tmp_path):
    twin = encoder("colour-histogram", tile_px=32)
    cached_features(twin, task(seed=1), cache=tmp_path)
    [other] = files(tmp_path)
    expected = cached_features(twin, task(), cache=tmp_path)
    [path] = set(files(tmp_path)) - {other}
    path.write_bytes(other.read_bytes())
    with pytest.warns(UserWarning, match="features made of something else"):
        np.testing.assert_array_equal(cached_features(twin, task(), cache=tmp_path), expected)


def child(work) -> int:
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def test_two_processes_at_once_compute_once(tmp_path, monkeypatch):
    def slow(self, tiles_NHWC, **_):
        (tmp_path / f"computed-{os.getpid()}").touch()
        time.sleep(0.3)
        return np.ones((len(tiles_NHWC), 4), dtype=np.float32)

    monkeypatch.setattr(Encoder, "features", slow)
    twin, cache = encoder("colour-histogram", tile_px=32), tmp_path / "cache"
    for pid in [child(lambda: cached_features(twin, task(), cache=cache)) for _ in range(3)]:
        assert os.waitpid(pid, 0)[1] == 0
    assert len(list(tmp_path.glob("computed-*"))) == 1
    np.testing.assert_array_equal(cached_features(twin, task(), cache=cache), np.ones((6, 4)))


def test_a_killed_process_leaves_nothing_half_written_and_blocks_nobody(tmp_path, monkeypatch, counted):
    from histozoo import durable

    started, twin = tmp_path / "started", encoder("colour-histogram", tile_px=32)
    cache, inner = tmp_path / "cache", durable._sync

    def stuck(path):
        started.touch()
        time.sleep(60)

    monkeypatch.setattr(durable, "_sync", stuck)  # the bytes are written, the name is not there yet
    pid = child(lambda: cached_features(twin, task(), cache=cache))
    while not started.exists():
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    monkeypatch.setattr(durable, "_sync", inner)
    assert files(cache) == [] and len(list(cache.glob(".*.tmp"))) == 1
    assert cached_features(twin, task(), cache=cache).shape == (6, 512)
    assert len(files(cache)) == 1 and not list(cache.glob(".*.tmp"))


def test_features_that_are_not_finite_are_not_kept(tmp_path, monkeypatch):
    twin = encoder(TWIN, tile_px=32)
    model = twin.module()
    next(model.parameters()).data.fill_(float("nan"))
    broken = dataclasses.replace(twin, build=lambda: model)
    with pytest.raises(IntegrityError, match="HZ-I62"):
        cached_features(broken, task(), cache=tmp_path)
    assert files(tmp_path) == []


def test_i67_a_task_of_another_size_and_blocks_of_no_network_are_refused(tmp_path):
    with pytest.raises(UsageError, match="HZ-I67"):
        cached_features(encoder(TWIN, tile_px=32), task(px=16), cache=tmp_path)
    with pytest.raises(UsageError, match="HZ-I67"):
        cached_features(encoder("colour-histogram", tile_px=32), task(), cache=tmp_path, blocks=True)
