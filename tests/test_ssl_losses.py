"""The self-supervised losses against their formulas, written out sample by sample in float64: value, gradient, invariances."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from histozoo.recipes import barlow, byol, dino, ibot, mae, moco, simclr, swav, vicreg

Loss = Callable[..., Tensor]
B, D = 6, 5


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(v: Tensor) -> Tensor:
    return v / v.dot(v).sqrt()


# -- the formulas, by loops ------------------------------------------------------------------------------------------------------------


def nt_xent(a: Tensor, b: Tensor) -> Tensor:
    z = [unit(v) for v in (*a, *b)]
    n, terms = len(a), []
    for i, v in enumerate(z):
        others = sum((z[k].dot(v) / 0.1).exp() for k in range(2 * n) if k != i)
        terms.append(-torch.log((z[(i + n) % (2 * n)].dot(v) / 0.1).exp() / others))
    return sum(terms) / (2 * n)  # type: ignore[return-value]


def barlow_twins(a: Tensor, b: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(D):
        for j in range(D):
            x, y = a[:, i] - a[:, i].mean(), b[:, j] - b[:, j].mean()
            sd_x, sd_y = ((v.square().sum() / B + 1e-5).sqrt() for v in (x, y))
            c = (x * y).sum() / B / sd_x / sd_y
            total = total + ((1 - c) ** 2 if i == j else 0.0051 * c**2)
    return total


def vic_reg(a: Tensor, b: Tensor) -> Tensor:
    loss = 25 * sum((p - q).square().sum() for p, q in zip(a, b, strict=True)) / (B * D)
    for x in (a, b):
        centred = [row - sum(x) / B for row in x]
        for i in range(D):
            variance = sum(r[i] ** 2 for r in centred) / (B - 1)
            loss = loss + 25 * 0.5 * torch.clamp(1 - (variance + 1e-4).sqrt(), min=0) / D
            for j in range(D):
                if i != j:
                    loss = loss + (sum(r[i] * r[j] for r in centred) / (B - 1)) ** 2 / D
    return loss  # type: ignore[return-value]


def byol_distance(q: Tensor, k: Tensor) -> Tensor:
    return sum((unit(x) - unit(y)).square().sum() for x, y in zip(q, k, strict=True)) / len(q)  # type: ignore[return-value]


def moco_3(q: Tensor, k: Tensor) -> Tensor:
    terms = []
    for i, v in enumerate(q):
        scores = torch.stack([unit(v).dot(unit(w)) / 0.2 for w in k])
        terms.append(-scores[i] + scores.exp().sum().log())
    return 2 * 0.2 * sum(terms) / len(q)  # type: ignore[return-value]


QUEUE = torch.stack([unit(v) for v in normal(7, D, seed=9)])


def moco_2(q: Tensor, k: Tensor) -> Tensor:
    terms = []
    for v, w in zip(q, k, strict=True):
        scores = torch.stack([unit(v).dot(unit(w)), *(unit(v).dot(n) for n in QUEUE)]) / 0.2
        terms.append(-scores[0] + scores.exp().sum().log())
    return sum(terms) / len(q)  # type: ignore[return-value]


def ko_leo(f: Tensor, _: Tensor) -> Tensor:
    z, terms = [unit(v) for v in f], []
    for i, v in enumerate(z):
        distance = torch.stack([(v - w).square().sum().sqrt() for j, w in enumerate(z) if j != i]).min()
        terms.append(-torch.log(distance + 1e-8))
    return sum(terms) / len(f)  # type: ignore[return-value]


def barlow_ours(a: Tensor, b: Tensor) -> Tensor:
    invariance, redundancy = barlow.terms(a, b)
    return invariance + barlow.Settings().off_diagonal * redundancy


def vicreg_ours(a: Tensor, b: Tensor) -> Tensor:
    s, (invariance, variance, covariance) = vicreg.Settings(), vicreg.terms(a, b)
    return s.invariance * invariance + s.variance * variance + s.covariance * covariance


PAIRS: dict[str, tuple[Loss, Loss]] = {
    "simclr": (lambda a, b: simclr.nt_xent(a, b, temperature=simclr.Settings().temperature), nt_xent),
    "barlow": (barlow_ours, barlow_twins),
    "vicreg": (vicreg_ours, vic_reg),
    "byol": (byol.regression, byol_distance),
    "moco": (lambda q, k: moco.in_batch(q, k, temperature=moco.Settings().temperature), moco_3),
    "moco_queue": (lambda q, k: moco.with_queue(q, k, QUEUE.to(q.dtype), temperature=0.2), moco_2),
    "koleo": (lambda f, _: ibot.koleo(f), ko_leo),
}


def value_and_gradients(loss: Loss, *inputs: Tensor) -> tuple[float, list[Tensor]]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    value = loss(*leaves)
    grads = torch.autograd.grad(value, leaves, allow_unused=True)
    return float(value.detach()), [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)
    ]


def same(
    ours: tuple[float, list[Tensor]], theirs: tuple[float, list[Tensor]], tolerance: float = 1e-5
) -> None:
    assert ours[0] == pytest.approx(theirs[0], rel=tolerance, abs=tolerance)
    for g, h in zip(ours[1], theirs[1], strict=True):
        assert torch.allclose(g.double(), h.double(), rtol=tolerance, atol=tolerance * float(h.abs().max()))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_are_those_of_the_formula(name: str, seed: int) -> None:
    ours, formula = PAIRS[name]
    a, b = normal(B, D, seed=seed), 0.5 * normal(B, D, seed=seed) + normal(B, D, seed=seed + 10)
    expected = value_and_gradients(formula, a, b)
    assert max(float(g.abs().max()) for g in expected[1]) > 1e-3
    same(value_and_gradients(ours, a, b), expected, 1e-9)
    # The same in the precision that it is trained in: the value to 1e-5.
    assert float(ours(a.float(), b.float())) == pytest.approx(expected[0], rel=1e-5, abs=1e-5)


# -- losses over prototypes and tokens --------------------------------------------------------------------------------------------------


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_dino_is_the_cross_entropy_of_every_global_crop_with_every_other_crop() -> None:
    scores, taught, centre = normal(4, B, 7), normal(2, B, 7, seed=1), normal(7, seed=2)

    def ours(s: Tensor) -> Tensor:
        p = dino.targets(taught, centre, temperature=0.04)
        return dino.cross_entropy(s, p, temperature=0.1)

    def formula(s: Tensor) -> Tensor:
        p = torch.from_numpy(softmax((taught - centre).numpy() / 0.04))
        terms = [
            -(p[g, i] * ((s[v, i] / 0.1) - (s[v, i] / 0.1).exp().sum().log())).sum()
            for g in range(2)
            for v in range(4)
            if v != g
            for i in range(B)
        ]
        return sum(terms) / len(terms)  # type: ignore[return-value]

    same(value_and_gradients(ours, scores), value_and_gradients(formula, scores), 1e-9)


def test_ibot_token_loss_weighs_every_crop_alike_and_a_crop_without_hidden_tokens_is_zero() -> None:
    hidden = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    scores, p = normal(4, 7), torch.softmax(normal(4, 7, seed=1), -1)

    def formula(s: Tensor) -> Tensor:
        ce = [-(p[m] * (s[m] / 0.1 - (s[m] / 0.1).exp().sum().log())).sum() for m in range(4)]
        return ((ce[0] + ce[1] + ce[2]) / 3 + 0 + ce[3]) / 3

    ours = value_and_gradients(lambda s: ibot.token_loss(s, p, hidden, temperature=0.1), scores)
    same(ours, value_and_gradients(formula, scores), 1e-9)
    none = ibot.token_loss(scores[:0], p[:0], torch.zeros_like(hidden), temperature=0.1)
    assert float(none) == 0.0


def test_mae_is_the_squared_error_of_standardised_hidden_tokens() -> None:
    x = normal(2, 3, 8, 8)
    guess = normal(2, 4, 48, seed=1)
    hidden = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1]], dtype=torch.bool)

    def formula(g: Tensor) -> Tensor:
        errors = []
        for b in range(2):
            for token in range(4):
                top, left = 4 * (token // 2), 4 * (token % 2)
                patch = x[b, :, top : top + 4, left : left + 4].permute(1, 2, 0).flatten()
                target = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
                errors += [(g[b, token] - target).square().mean()] if hidden[b, token] else []
        assert len(errors) == 6
        return sum(errors) / 6  # type: ignore[return-value]

    def ours(g: Tensor) -> Tensor:
        return mae.reconstruction(g, mae.standardise(mae.pixels(x, 4)), hidden)

    same(value_and_gradients(ours, guess), value_and_gradients(formula, guess), 1e-9)
    assert torch.allclose(
        ours(guess), mae.reconstruction(guess, mae.standardise(mae.pixels(3 * x + 1, 4)), hidden)
    )


def test_sinkhorn_is_what_the_authors_algorithm_gives() -> None:
    scores = normal(9, 4).numpy()
    q = np.exp(scores / 0.5).T  # Caron et al., appendix A, listing: prototypes by samples
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(axis=1, keepdims=True) * 4
        q /= q.sum(axis=0, keepdims=True) * 9
    ours = swav.sinkhorn(torch.from_numpy(scores), epsilon=0.5, rounds=3)
    assert np.allclose(ours.numpy(), (q * 9).T, rtol=1e-9)


def test_sinkhorn_after_many_rounds_spreads_the_batch_evenly_and_a_hand_computed_case_is_met() -> None:
    q = swav.sinkhorn(normal(12, 4), epsilon=0.5, rounds=200)
    assert torch.allclose(q.sum(1), torch.ones(12, dtype=torch.float64))
    assert torch.allclose(q.sum(0), torch.full((4,), 3.0, dtype=torch.float64))
    # exp(scores) = [[1, 3], [1, 1]]; columns sum to 2 and 4: [[1/2, 3/4], [1/2, 1/4]]; rows: [[2/5, 3/5], [2/3, 1/3]].
    scores = torch.tensor([[1.0, 3.0], [1.0, 1.0]]).double().log()
    one = swav.sinkhorn(scores, epsilon=1.0, rounds=1)
    assert torch.allclose(one, torch.tensor([[2 / 5, 3 / 5], [2 / 3, 1 / 3]]).double())
    large = swav.sinkhorn(scores + 1000, epsilon=1.0, rounds=1)  # exp(1000) is no number
    assert torch.allclose(large, one)


# -- invariances -----------------------------------------------------------------------------------------------------------------------


def rotation(seed: int = 5) -> Tensor:
    return torch.linalg.qr(normal(D, D, seed=seed))[0]


A, C = normal(B, D), normal(B, D, seed=3)
ORDER = torch.tensor([3, 0, 5, 1, 4, 2])
LENGTHS = torch.linspace(0.5, 4, B, dtype=torch.float64)[:, None]
SCALES, SHIFTS = torch.linspace(30, 50, D, dtype=torch.float64), torch.linspace(-3, 3, D, dtype=torch.float64)
UNCHANGED: dict[str, tuple[str, tuple[Tensor, Tensor], float]] = {
    "simclr order": ("simclr", (A[ORDER], C[ORDER]), 1e-9),
    "simclr swap": ("simclr", (C, A), 1e-9),
    "simclr length": ("simclr", (A * LENGTHS, C * 3), 1e-9),
    "simclr rotation": ("simclr", (A @ rotation(), C @ rotation()), 1e-9),
    "barlow order": ("barlow", (A[ORDER], C[ORDER]), 1e-9),
    "barlow swap": ("barlow", (C, A), 1e-9),
    "barlow shift and scale": ("barlow", (A * SCALES + SHIFTS, C * 40 - 1), 1e-4),
    "barlow features": ("barlow", (A[:, [2, 0, 1, 4, 3]], C[:, [2, 0, 1, 4, 3]]), 1e-9),
    "vicreg order": ("vicreg", (A[ORDER], C[ORDER]), 1e-9),
    "vicreg swap": ("vicreg", (C, A), 1e-9),
    "vicreg shift": ("vicreg", (A + SHIFTS, C + SHIFTS), 1e-9),
    "byol length": ("byol", (A * LENGTHS, C / LENGTHS), 1e-9),
    "byol rotation": ("byol", (A @ rotation(), C @ rotation()), 1e-9),
    "moco length": ("moco", (A * LENGTHS, C / LENGTHS), 1e-9),
    "moco rotation": ("moco", (A @ rotation(), C @ rotation()), 1e-9),
    "moco_queue length": ("moco_queue", (A * LENGTHS, C / LENGTHS), 1e-9),
    "koleo length": ("koleo", (A * LENGTHS, C), 1e-9),
    "koleo rotation": ("koleo", (A @ rotation(), C), 1e-9),
}


@pytest.mark.parametrize("what", UNCHANGED)
def test_what_the_loss_must_not_see_does_not_change_it(what: str) -> None:
    name, changed, tolerance = UNCHANGED[what]
    assert float(PAIRS[name][0](*changed)) == pytest.approx(float(PAIRS[name][0](A, C)), rel=tolerance)


@pytest.mark.parametrize("name", ["simclr", "barlow", "vicreg", "byol", "moco", "moco_queue"])
def test_pairs_that_belong_together_cost_less_than_pairs_that_do_not(name: str) -> None:
    loss = PAIRS[name][0]
    assert float(loss(A, A + 0.01 * C)) < 0.8 * float(loss(A, A[ORDER]))


def test_a_collapsed_batch_costs_what_the_formulas_say() -> None:
    ones = torch.ones(B, D, dtype=torch.float64)
    assert float(PAIRS["simclr"][0](ones, ones)) == pytest.approx(math.log(2 * B - 1))
    assert float(PAIRS["moco"][0](ones, ones)) == pytest.approx(0.4 * math.log(B))
    assert float(PAIRS["byol"][0](ones, ones)) == pytest.approx(0)
    assert float(PAIRS["barlow"][0](ones, ones)) == pytest.approx(D)
    assert float(PAIRS["vicreg"][0](ones, ones)) == pytest.approx(25 * (1 - 0.01))
    assert float(PAIRS["koleo"][0](ones, ones)) == pytest.approx(-math.log(1e-8))


def test_dino_does_not_see_a_number_added_to_all_scores_nor_a_permutation_of_the_outputs() -> None:
    scores, taught, centre = normal(4, B, 7), normal(2, B, 7, seed=1), normal(7, seed=2)

    def loss(s: Tensor, t: Tensor, c: Tensor) -> float:
        return float(dino.cross_entropy(s, dino.targets(t, c, temperature=0.04), temperature=0.1))

    before, shuffle = loss(scores, taught, centre), torch.tensor([6, 1, 4, 0, 5, 2, 3])
    assert loss(scores + 5, taught - 2, centre) == pytest.approx(before)
    assert loss(scores[..., shuffle], taught[..., shuffle], centre[shuffle]) == pytest.approx(before)
    assert loss(scores[:, ORDER], taught[:, ORDER], centre) == pytest.approx(before)
    assert loss(scores, taught, centre + torch.arange(7)) != pytest.approx(before)


def test_losses_are_worked_out_in_full_precision_inside_autocast() -> None:
    a, b = normal(B, 64).float(), normal(B, 64, seed=1).float()
    expected = simclr.nt_xent(a, b, temperature=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(simclr.nt_xent(a, b, temperature=0.1), expected)
        assert simclr.nt_xent(a.bfloat16(), b.bfloat16(), temperature=0.1).dtype == torch.float32
