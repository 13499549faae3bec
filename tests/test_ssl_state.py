"""What self-supervised recipes carry from step to step: teachers, queues, centres; and what a dropped batch must leave alone."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.recipes import dino, ibot, moco, parts
from histozoo.recipes.base import Recipe
from histozoo.recipes.lars import LARS
from tests.fakes.ssl import MADE, NormedTrunk, batch, make, tiny_vit, train_step

EVERY = [*MADE, "multitaskssl"]
CONVOLUTIONAL = [name for name in EVERY if not name.startswith(("ibot", "mae"))]
State = dict[str, Tensor]


def optimizer(recipe: Recipe, kind: str = "adamw") -> torch.optim.Optimizer:
    groups = recipe.param_groups()
    return LARS(groups, lr=0.05) if kind == "lars" else torch.optim.AdamW(groups, lr=0.01, fused=True)


def snapshot(recipe: Recipe) -> State:
    return {k: v.clone() for k, v in recipe.state_dict().items()}


def changed(before: State, after: State) -> set[str]:
    assert before.keys() == after.keys()
    return {k for k in before if not torch.equal(before[k], after[k])}


# -- teachers --------------------------------------------------------------------------------------------------------------------------


def test_the_teacher_follows_by_the_formula_and_keeps_its_own_statistics() -> None:
    teacher, student = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        teacher.weight.copy_(torch.tensor([1.0, 2.0]))
        student.weight.copy_(torch.tensor([3.0, -2.0]))
        student.running_mean.fill_(9)
    parts.follow(teacher, student, 0.75)
    assert teacher.weight.tolist() == [0.75 * 1 + 0.25 * 3, 0.75 * 2 + 0.25 * -2]
    assert teacher.running_mean.tolist() == [0, 0]


@pytest.mark.parametrize("name", ["byol", "moco", "moco_queue", "dino", "ibot", "ibot_ema"])
def test_the_teacher_starts_as_the_student_has_no_gradient_and_moves_after_the_step(name: str) -> None:
    recipe = make(name)
    teacher = {k: p for k, p in recipe.named_parameters() if k.startswith("teacher_")}
    student = dict(recipe.named_parameters())
    assert len(teacher) >= 6
    for key, p in teacher.items():
        assert torch.equal(p, student[key.removeprefix("teacher_")]) and not p.requires_grad
    before = {k: p.clone() for k, p in teacher.items()}
    train_step(recipe, batch(recipe), optimizer(recipe), 10)
    start = recipe.settings.momentum  # type: ignore[union-attr]
    end = 0.999 if name == "moco_queue" else 1.0
    m = end + (start - end) * 0.5  # half of the steps
    for key, p in teacher.items():
        expected = m * before[key] + (1 - m) * student[key.removeprefix("teacher_")]
        assert torch.allclose(p, expected, rtol=1e-5, atol=1e-7) and p.grad is None, key
    assert any(not torch.equal(p, before[k]) for k, p in teacher.items())


# -- centre, queue, prototypes ---------------------------------------------------------------------------------------------------------


def test_dinos_centre_is_the_running_mean_of_the_teachers_scores_and_counts_from_the_next_step() -> None:
    recipe = make("dino")
    assert isinstance(recipe, dino.DINO)
    data = batch(recipe)
    with torch.no_grad():
        views = recipe.views(data["tiles"], data["u"])[:2]
        means = torch.stack([recipe.teacher_head(recipe.teacher_backbone(x)).mean(0) for x in views])
    train_step(recipe, data, optimizer(recipe), 0)
    assert torch.allclose(recipe.centre, 0.1 * means.mean(0), atol=1e-6) and bool(
        recipe.centre.abs().max() > 0
    )


def test_the_queue_is_written_round_and_round() -> None:
    queue, end = torch.zeros(5, 1), torch.tensor(0)
    moco.enqueue(queue, end, torch.tensor([[1.0], [2.0], [3.0]]))
    assert queue.flatten().tolist() == [1, 2, 3, 0, 0] and int(end) == 3
    moco.enqueue(queue, end, torch.tensor([[4.0], [5.0], [6.0]]))
    assert queue.flatten().tolist() == [6, 2, 3, 4, 5] and int(end) == 1
    moco.enqueue(
        queue, end, torch.arange(10.0, 17)[:, None]
    )  # 7 keys into 5 places from place 1: 12 to 16 stay
    assert sorted(queue.flatten().tolist()) == [12, 13, 14, 15, 16] and int(end) == 3
    assert queue.flatten().tolist()[2] == 16


def test_mocos_queue_takes_the_teachers_keys_of_the_second_view() -> None:
    recipe = make("moco_queue")
    assert isinstance(recipe, moco.MoCo)
    data, random = batch(recipe), recipe.queue.clone()
    with torch.no_grad():
        x = recipe.views(data["tiles"], data["u"])[1]
        keys = F.normalize(recipe.teacher_projector(recipe.teacher_backbone(x)), dim=1)
    train_step(recipe, data, optimizer(recipe), 0)
    assert torch.allclose(recipe.queue[:8], keys, atol=1e-6) and torch.equal(recipe.queue[8:], random[8:])
    assert torch.allclose(recipe.queue.norm(dim=1), torch.ones(24)) and int(recipe.queue_end) == 8


def test_swavs_queue_holds_the_newest_first_and_helps_once_it_is_full() -> None:
    recipe = make("swav_queue")
    opt, fronts = optimizer(recipe), []
    for step in range(3):
        train_step(recipe, batch(recipe, seed=step), opt, step)
        fronts.append(recipe.queue_GQD[:, :8].clone())  # type: ignore[index,union-attr,operator]
        assert int(recipe.queued) == min(16, 8 * (step + 1))  # type: ignore[arg-type]
    assert torch.equal(recipe.queue_GQD[:, 8:], fronts[1])  # type: ignore[index,union-attr]
    data = batch(recipe, seed=5)
    helped = float(recipe(data)["loss"].detach())
    recipe.queued.fill_(15)  # type: ignore[union-attr,operator]
    assert float(recipe(data)["loss"].detach()) != helped


def test_prototypes_have_unit_length_after_every_step_and_rest_while_frozen() -> None:
    recipe = make("swav")
    opt = optimizer(recipe, "lars")
    start = recipe.prototypes.clone()  # type: ignore[union-attr,operator]
    train_step(recipe, batch(recipe), opt, 0)
    moved = recipe.prototypes
    assert torch.allclose(moved.norm(dim=1), torch.ones(12)) and not torch.equal(moved, start)  # type: ignore[union-attr,operator,arg-type]
    for name in ("swav", "dino", "ibot"):
        kind, settings, _ = MADE[name]
        still = {"freeze_steps": 5} if name == "swav" else {"freeze_last": 0.25}
        recipe = make(name, settings=dataclasses.replace(settings, **still))
        opt = optimizer(recipe)
        keys = {k for k, _ in recipe.named_parameters() if "prototypes" in k and "teacher" not in k}
        for step, moves in ((4, False), (5, True)):
            before = snapshot(recipe)
            train_step(recipe, batch(recipe, seed=step), opt, step)
            found = changed(before, snapshot(recipe))
            large = {k for k in keys if float((recipe.state_dict()[k] - before[k]).abs().max()) > 1e-5}
            assert large == (keys if moves else set()) and len(found) > 5, (kind, step)


# -- what is dropped -------------------------------------------------------------------------------------------------------------------


def poison_input(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    views = recipe.objective.views if hasattr(recipe, "objective") else recipe.views  # type: ignore[union-attr]
    owner = recipe.objective if hasattr(recipe, "objective") else recipe
    monkeypatch.setattr(owner, "views", Poisoned(views))


class Poisoned:
    """Views with one number that is none."""

    def __init__(self, views: Any) -> None:
        self.views, self.uniforms = views, views.uniforms

    def __call__(self, tiles: Tensor, u: Tensor) -> list[Tensor]:
        views = self.views(tiles, u)
        views[0][0, 0, 0, 0] = float("nan")
        return list(views)


def with_gradient(p: nn.Parameter, value: float) -> Any:
    return p.register_hook(lambda g: torch.full_like(g, value))


@pytest.mark.parametrize("site", ["input", "gradient", "loss"])
@pytest.mark.parametrize("name", EVERY)
def test_a_batch_that_is_not_finite_leaves_every_bit_as_it_was(
    name: str, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = NormedTrunk() if name in CONVOLUTIONAL else tiny_vit()
    recipe = make(name, trunk=trunk)
    opt = optimizer(recipe)
    for step in range(2):
        train_step(recipe, batch(recipe, seed=step), opt, step)
    before, moments = snapshot(recipe), copy.deepcopy(opt.state_dict()["state"])
    twin = copy.deepcopy((recipe, opt))
    with monkeypatch.context() as patch:
        if site == "input":
            poison_input(recipe, patch)
        elif site == "loss":
            forward = recipe.forward
            patch.setattr(recipe, "forward", lambda b: {"loss": forward(b)["loss"] * float("inf")})
        hook = with_gradient(next(p for p in recipe.parameters() if p.requires_grad), float("inf"))
        if site != "gradient":
            hook.remove()
        train_step(recipe, batch(recipe, seed=2), opt, 2)
        hook.remove()
    assert changed(before, snapshot(recipe)) == set()
    for index, state in opt.state_dict()["state"].items():
        assert all(torch.equal(v, moments[index][k]) for k, v in state.items())
    # What follows is what follows without that batch.
    losses = [train_step(r, batch(r, seed=3), o, 2)["loss"] for r, o in ((recipe, opt), twin)]
    assert torch.equal(*losses) and torch.isfinite(losses[0])
    assert changed(snapshot(recipe), snapshot(twin[0])) == set()
    assert changed(before, snapshot(recipe)) > {"backbone.out.weight"} if name in CONVOLUTIONAL else True


def test_scores_of_the_teacher_that_are_infinite_show_among_the_terms_before_they_reach_the_centre() -> None:
    """Minus infinity is probability 0 and costs nothing, so the loss alone would not tell."""
    recipe = make("dino")
    assert isinstance(recipe, dino.DINO)
    recipe.teacher_head.register_forward_hook(
        lambda _m, _i, out: out.index_fill(-1, torch.tensor([0]), float("-inf"))
    )
    terms = recipe(batch(recipe))
    assert torch.isfinite(terms["loss"]) and not torch.isfinite(terms["teacher_mean"])


def test_keys_and_scores_of_all_micro_batches_are_kept_and_a_drop_forgets_them_all() -> None:
    recipe = make("moco_queue")
    for seed in range(2):
        recipe(batch(recipe, seed=seed))["loss"].backward()
    recipe.after_step()
    assert int(recipe.queue_end) == 16  # type: ignore[arg-type]
    recipe(batch(recipe, seed=3))
    recipe.on_drop()
    recipe.after_step()
    assert int(recipe.queue_end) == 16  # type: ignore[arg-type]
    recipe.eval()
    recipe(batch(recipe, seed=3))
    recipe.after_step()
    assert int(recipe.queue_end) == 16  # type: ignore[arg-type]


# -- saved and continued ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adamw", "lars"])
@pytest.mark.parametrize("name", EVERY)
def test_a_state_dict_round_trip_continues_bit_for_bit(name: str, kind: str) -> None:
    trunk = (lambda: NormedTrunk()) if name in CONVOLUTIONAL else tiny_vit
    recipe = make(name, trunk=trunk())
    opt = optimizer(recipe, kind)
    for step in range(3):
        train_step(recipe, batch(recipe, seed=step), opt, step)
    state = snapshot(recipe)
    assert len({v.data_ptr() for v in recipe.state_dict().values()}) == len(state)  # nothing is saved twice
    other = make(name, trunk=trunk(), seed=99)
    opt_2 = optimizer(other, kind)
    other.load_state_dict(state, strict=True)
    opt_2.load_state_dict(copy.deepcopy(opt.state_dict()))
    for step in (3, 4):
        ours = train_step(recipe, batch(recipe, seed=step), opt, step)
        theirs = train_step(other, batch(other, seed=step), opt_2, step)
        assert all(torch.equal(ours[k], theirs[k]) for k in ours) and ours.keys() == theirs.keys()
    assert changed(snapshot(recipe), snapshot(other)) == set()
    assert changed(state, snapshot(recipe)) != set()


def test_settings_of_ibot_with_one_head_hold_it_once() -> None:
    one, two = make("ibot_ema"), make("ibot")
    assert isinstance(one, ibot.IBOT) and isinstance(two, ibot.IBOT)
    assert list(one.heads) == ["crop"] and list(two.heads) == ["crop", "token"]
    assert math.isfinite(float(one(batch(one))["loss"].detach()))
