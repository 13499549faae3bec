"""Attention pooling against a hand-written formula, its invariances, padding, and the loop against a plain Adam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from histozoo.errors import UsageError
from histozoo.evaluate.slides.attention import POOLINGS, SlideHead, bag_loss, top_tiles

D, K = 5, 3


def head(pooling: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> SlideHead:
    torch.manual_seed(seed)
    made = SlideHead(D, K, pooling=pooling).to(dtype)
    if made.attention is not None:
        made.attention.score.weight.data *= (
            20  # far from even, so that the attention has something to get wrong
        )
    return made


def bag(tiles: int, *, dtype: torch.dtype = torch.float32, seed: int = 1) -> torch.Tensor:
    return torch.randn((1, tiles, D), generator=torch.Generator().manual_seed(seed)).to(dtype) * 3


def by_hand(h: SlideHead, f_TD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equations 8 and 9 of Ilse et al. tile by tile, in numpy."""
    p = {k: v.detach().numpy() for k, v in h.named_parameters()}
    embedded, scores = [], []
    for f_D in f_TD:
        x = np.maximum(p["embed.0.weight"] @ f_D + p["embed.0.bias"], 0)
        x = np.maximum(p["embed.2.weight"] @ x + p["embed.2.bias"], 0)
        hidden = np.tanh(p["attention.value.weight"] @ x + p["attention.value.bias"])
        if h.pooling == "gated":
            hidden = hidden / (1 + np.exp(-(p["attention.gate.weight"] @ x + p["attention.gate.bias"])))
        embedded.append(x)
        scores.append(float(p["attention.score.weight"][0] @ hidden + p["attention.score.bias"][0]))
    weights = np.exp(scores) / np.exp(scores).sum()
    pooled = sum(a * x for a, x in zip(weights, embedded, strict=True))
    return p["slide.weight"] @ pooled + p["slide.bias"], weights


@pytest.mark.parametrize("pooling", ["attention", "gated"])
def test_attention_is_the_papers_formula_written_by_hand(pooling: str) -> None:
    h, f_BTD = head(pooling, dtype=torch.float64), bag(7, dtype=torch.float64)
    logits_K, weights_T = by_hand(h, f_BTD[0].numpy())
    found = h(f_BTD)
    np.testing.assert_allclose(found.logits_BK[0].detach().numpy(), logits_K, atol=1e-12)
    np.testing.assert_allclose(found.attention_BT[0].detach().numpy(), weights_T, atol=1e-12)
    assert weights_T.max() > 1.5 / 7


def test_layers_have_the_published_sizes_and_no_dropout() -> None:
    sizes = {
        n: tuple(m.weight.shape) for n, m in SlideHead(512, 2).named_modules() if isinstance(m, nn.Linear)
    }
    assert sizes == {
        "embed.0": (256, 512), "embed.2": (64, 256), "attention.value": (32, 64), "attention.score": (1, 32),
        "slide": (2, 64), "tile": (2, 64),
    }  # fmt: skip
    for pooling in POOLINGS:
        assert not [m for m in head(pooling).modules() if isinstance(m, nn.Dropout)]


@pytest.mark.parametrize("pooling", ["attention", "gated"])
def test_the_gradient_of_the_attention_is_that_of_the_softmax_by_hand(pooling: str) -> None:
    """dL/ds_t = a_t (g . h_t - g . sum_u a_u h_u) with g = C^T (softmax(logits) - onehot); and autograd against differences."""
    h, f_BTD, label = head(pooling, dtype=torch.float64), bag(6, dtype=torch.float64), torch.tensor([2])
    found = h(f_BTD)
    found.scores_BT.retain_grad()
    bag_loss(found, label).backward()
    with torch.no_grad():
        h_TE, a_T = h.embed(f_BTD)[0], found.attention_BT[0]
        residual_K = torch.softmax(found.logits_BK[0], 0) - functional.one_hot(label, K)[0]
        g_T = h_TE @ (h.slide.weight.T @ residual_K)
        expected_T = a_T * (g_T - a_T @ g_T)
    torch.testing.assert_close(found.scores_BT.grad[0], expected_T, atol=1e-12, rtol=1e-9)
    assert expected_T.abs().max() > 1e-5
    f_BTD.requires_grad_(True)
    bag_loss(h(f_BTD), label, beta=0.5).backward()
    for t, d in ((0, 0), (3, 2), (5, 4)):
        step = torch.zeros_like(f_BTD)
        step[0, t, d] = 1e-6
        with torch.no_grad():
            up, down = (bag_loss(h(f_BTD + sign * step), label, beta=0.5) for sign in (1, -1))
        torch.testing.assert_close((up - down) / 2e-6, f_BTD.grad[0, t, d], atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_order_of_tiles_changes_float32_by_rounding_only_and_float64_by_less(pooling: str) -> None:
    """A sum of floats depends on its order in the last bits, so equality is to 1e-6 of float32; `Bags` gives equal bits."""
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    for dtype, close in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        h, f_BTD = head(pooling, dtype=dtype), bag(200, dtype=dtype)
        first, second = h(f_BTD), h(f_BTD[:, order])
        assert (first.logits_BK - second.logits_BK).abs().max() <= close
        if first.attention_BT is not None:
            assert (first.attention_BT[:, order] - second.attention_BT).abs().max() <= close


@pytest.mark.parametrize("pooling", ["attention", "gated", "mean"])
@pytest.mark.parametrize("tiles", [1, 2, 300])
def test_attention_sums_to_one(pooling: str, tiles: int) -> None:
    found = head(pooling)(bag(tiles) * 20)  # far from even
    assert abs(found.attention_BT.sum().item() - 1) < 1e-6
    assert found.attention_BT.min().item() >= 0


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_leaks_neither_forward_nor_backward_even_if_it_is_nan(pooling: str) -> None:
    h, short, long = head(pooling), bag(3), bag(8, seed=2)
    padded = torch.full((2, 8, D), torch.nan)
    padded[0, :3], padded[1] = short[0], long[0]
    mask = torch.tensor([[True] * 3 + [False] * 5, [True] * 8])
    label = torch.tensor([0, 2])
    together = h(padded, mask)
    alone = [h(short), h(long)]
    torch.testing.assert_close(
        together.logits_BK, torch.cat([a.logits_BK for a in alone]), atol=1e-6, rtol=1e-6
    )
    if together.attention_BT is not None:
        assert together.attention_BT[0, 3:].tolist() == [0.0] * 5
    bag_loss(together, label, beta=0.3, mask_BT=mask).backward()
    found = [p.grad.clone() for p in h.parameters() if p.grad is not None]
    h.zero_grad()
    slides = sum(bag_loss(a, label[i : i + 1], alpha=0.5) for i, a in enumerate(alone))
    tiles = sum(
        bag_loss(a, label[i : i + 1], alpha=0, beta=0.3 * n / 11)
        for i, (a, n) in enumerate(zip(alone, (3, 8), strict=True))
    )
    (slides + tiles).backward()
    expected = [p.grad for p in h.parameters() if p.grad is not None]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_mean_and_max_pool_the_embedded_tiles() -> None:
    f_BTD = bag(9)
    for pooling, reduced in (("mean", lambda x: x.mean(1)), ("max", lambda x: x.amax(1))):
        h = head(pooling)
        torch.testing.assert_close(h(f_BTD).logits_BK, h.slide(reduced(h.embed(f_BTD))), atol=1e-6, rtol=1e-6)


def test_every_parameter_takes_part_even_with_the_tile_loss_at_zero() -> None:
    for pooling in POOLINGS:
        h = head(pooling)
        bag_loss(h(bag(4)), torch.tensor([1])).backward()
        assert [n for n, p in h.named_parameters() if p.grad is None] == []


def test_top_tiles_are_the_highest_and_fewer_where_there_are_fewer() -> None:
    scores = torch.tensor([0.1, 3.0, -1.0, 3.0, 2.0])
    assert top_tiles(scores, 3).tolist() == [1, 3, 4]
    assert top_tiles(scores, 64).tolist() == [1, 3, 4, 0, 2]


def test_an_empty_bag_and_an_unknown_pooling_are_refused() -> None:
    h = head("attention")
    masked = torch.tensor([[True, True], [False, False]])
    for give in (lambda: h(torch.zeros(1, 0, D)), lambda: h(torch.zeros(2, 2, D), masked)):
        with pytest.raises(UsageError, match="HZ-I71 a bag is empty"):
            give()
    with pytest.raises(UsageError, match="HZ-I72 there is no such pooling"):
        SlideHead(D, K, pooling="median")
