"""The multi-task recipe against the paper's definitions."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.data.mixing import UNIFORMS
from histozoo.data.views import Views
from histozoo.recipes.batch_norm import transplant_batch_norm
from histozoo.recipes.multitask import PRESETS, Multitask

CLASSES = {"nuclei": 2, "tissue": 5, "stroma": 3}


def recipe(**changes: Any) -> Multitask:
    torch.manual_seed(0)
    settings = {**PRESETS["faithful"], "head_warmup_steps": 0, **changes}
    views = Views(px=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), flip=True)
    return Multitask(
        timm.create_model("test_resnet", num_classes=0), CLASSES, views=views, settings=settings
    ).train()


def batch(task_B: list[int], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tasks = torch.tensor(task_B)
    classes = torch.tensor(list(CLASSES.values()))
    return {
        "tiles": torch.randint(0, 256, (len(tasks), 32, 32, 3), dtype=torch.uint8, generator=generator),
        "u": torch.rand(len(tasks), UNIFORMS, generator=generator),
        "task": tasks,
        "label": torch.randint(0, 1000, (len(tasks),), generator=generator) % classes[tasks],
    }


def task_means(model: Multitask, data: dict[str, Tensor]) -> list[Tensor]:
    """Mean cross-entropy of each present task, written out from the definition."""
    f_BD = model.backbone(model.views(data["tiles"], data["u"]))
    means = []
    for index, head in enumerate(model.heads.values()):
        rows = (data["task"] == index).nonzero().flatten()
        if len(rows):
            means.append(F.cross_entropy(head(f_BD[rows]), data["label"][rows]))
    return means


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def test_head_gradients_are_those_of_the_task_means_and_trunk_gradients_those_of_the_batch_mean() -> None:
    data = batch([0, 0, 0, 0, 0, 1, 1, 2])
    model = recipe()
    model(data)["loss"].backward()
    model.before_step()
    ours = gradients(model)

    reference = recipe()
    sum(task_means(reference, data)).backward()  # type: ignore[union-attr]
    for name, expected in gradients(reference.heads).items():
        assert torch.allclose(ours[f"heads.{name}"], expected, rtol=1e-4, atol=1e-7), name

    reference = recipe()
    counts = [5, 2, 1]
    sum(m * n / 8 for m, n in zip(task_means(reference, data), counts, strict=True)).backward()  # type: ignore[union-attr]
    trunk = gradients(reference.backbone)
    assert len(trunk) > 10
    for name, expected in trunk.items():
        assert torch.allclose(ours[f"backbone.{name}"], expected, rtol=1e-3, atol=1e-6), name


def test_the_modern_loss_is_the_mean_over_present_tasks_of_cross_entropy_over_ln_classes() -> None:
    data = batch([0, 0, 0, 1, 1, 1, 1, 1])
    model = recipe(loss="task_mean")
    loss = model(data)["loss"]
    nuclei, tissue = task_means(recipe(loss="task_mean"), data)
    expected = (nuclei / math.log(2) + tissue / math.log(5)) / 2
    assert torch.allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("preset", ["faithful", "modern"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_head_absent_from_the_batch_is_bit_identical_after_the_step(preset: str, optimizer: str) -> None:
    model = recipe(**{**PRESETS[preset], "head_warmup_steps": 0})
    groups = model.param_groups()
    step = (
        torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.AdamW(groups, lr=0.1)
    )
    for number, tasks in enumerate(([0, 0, 1, 2], [0, 0, 1, 1])):  # the first step gives every head momentum
        before = copy.deepcopy(model.heads.state_dict())
        model(batch(tasks, seed=number))["loss"].backward()
        model.before_step()
        step.step()
        step.zero_grad()
    after = model.heads.state_dict()
    assert torch.equal(after["stroma.weight"], before["stroma.weight"])
    assert torch.equal(after["stroma.bias"], before["stroma.bias"])
    assert not torch.equal(after["nuclei.weight"], before["nuclei.weight"])


def test_every_parameter_has_a_gradient_before_the_hook_even_if_its_task_is_absent() -> None:
    # Distributed training waits for the gradient of every parameter.
    model = recipe()
    model(batch([0, 0, 1, 1]))["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert float(model.heads["stroma"].weight.grad.abs().max()) == 0


def test_frozen_warm_up_changes_neither_trunk_weights_nor_batch_norm_buffers() -> None:
    model = recipe(head_warmup_steps=2, weight_decay=0.1)
    optimizer = torch.optim.AdamW(model.param_groups(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    for step in range(3):
        model.train()
        model.on_step(step)
        model(batch([0, 1, 2, 2], seed=step))["loss"].backward()
        assert all(p.grad is not None for p in model.parameters())
        model.before_step()
        optimizer.step()
        optimizer.zero_grad()
        changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
        if step < 2:
            assert changed == {k for k in before if k.startswith("heads.")}
    assert any("running_mean" in k for k in changed)
    assert any(k.startswith("backbone.") and k.endswith("weight") for k in changed)


def pretrained_trunk() -> nn.Module:
    """A trunk whose batch norms are not the identity."""
    torch.manual_seed(1)
    trunk = timm.create_model("test_resnet", num_classes=0)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return trunk


def test_batch_norm_transplant_leaves_eval_outputs_unchanged() -> None:
    trunk = pretrained_trunk().eval()
    batches = [
        torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(i)) * 2 + 1 for i in range(4)
    ]
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        before = trunk(batches[0])
        means = [n.running_mean.clone() for n in norms]
        transplant_batch_norm(trunk, batches)
        after = trunk(batches[0])
    assert len(norms) >= 5
    assert all(not torch.equal(n.running_mean, m) for n, m in zip(norms, means, strict=True))
    assert torch.allclose(after, before, rtol=1e-5, atol=1e-5 * float(before.abs().max()))


def test_batch_norm_transplant_makes_train_mode_agree_with_eval_mode_on_the_same_batch() -> None:
    trunk = pretrained_trunk()
    x_BCHW = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 + 1
    with torch.no_grad():
        gap_before = (trunk.train()(x_BCHW) - trunk.eval()(x_BCHW)).abs().mean()
        trunk = pretrained_trunk()
        transplant_batch_norm(trunk, [x_BCHW])
        gap_after = (trunk.eval()(x_BCHW) - trunk.train()(x_BCHW)).abs().mean()
    assert float(gap_after) < 0.1 * float(gap_before)


def test_learning_rates_of_the_faithful_preset_follow_the_paper() -> None:
    model = recipe(head_warmup_steps=5_000)
    trunk, _, head, _ = model.param_groups()
    assert (trunk["lr"], head["lr"]) == (1e-4, pytest.approx(5e-4))
    assert model.lr_factor(0, 4_999) == 0
    assert head["lr"] * model.lr_factor(2, 4_999) == pytest.approx(1e-3)
    assert model.lr_factor(0, 5_000) == model.lr_factor(2, 49_999) == 1


def test_the_modern_schedule_warms_up_and_ends_near_zero() -> None:
    model = recipe(**PRESETS["modern"])
    factors = [model.lr_factor(0, s) for s in range(PRESETS["modern"]["steps"])]
    assert max(factors) == factors[199] == 1
    assert factors[0] == 1 / 200
    assert factors[-1] < 1e-6
    assert all(a >= b for a, b in itertools.pairwise(factors[200:]))
