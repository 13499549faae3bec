"""Small stand-ins for the self-supervised recipes: views without randomness of their own, trunks of a few thousand weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.data.mixing import UNIFORMS
from histozoo.data.views import Views
from histozoo.recipes import (
    barlow,
    byol,
    dino,
    ibot,
    mae,
    moco,
    multitask,
    multitaskssl,
    simclr,
    swav,
    vicreg,
)
from histozoo.recipes.base import Recipe

STEPS = 20


@dataclass(frozen=True)
class Stub:
    """Views that brighten, darken and shrink a tile by its uniform numbers."""

    px: tuple[int, ...]

    @property
    def uniforms(self) -> int:
        return 3 * len(self.px)

    def __call__(self, tiles_BHWC: Tensor, u_BP: Tensor) -> list[Tensor]:
        x = tiles_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1
        factors = u_BP[:, : self.uniforms].view(-1, len(self.px), 3, 1, 1) + 0.5
        sized = [F.adaptive_avg_pool2d(x, px) for px in self.px]
        return [x * f for x, f in zip(sized, factors.unbind(1), strict=True)]


class Trunk(nn.Module):
    """A convolution and layer norm: nothing in it looks at other samples."""

    num_features = 24

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.norm = nn.LayerNorm(16)
        self.out = nn.Linear(16, 24)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        tokens = self.stem(x_BCHW).flatten(2).transpose(1, 2)
        return torch.tanh(self.out(self.norm(tokens).square().mean(1)))


class NormedTrunk(Trunk):
    """The same with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.batch = nn.BatchNorm1d(24)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.batch(super().forward(x_BCHW))


def tiny_vit(**options: Any) -> nn.Module:
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return timm.models.VisionTransformer(num_classes=0, **{**shape, "dynamic_img_size": True, **options})


HEAD = {"outputs": 40, "hidden": 32, "bottleneck": 16}
TWO, CROPS = Stub((16, 16)), Stub((16, 16, 8, 8))
MADE: dict[str, tuple[type[Recipe], Any, Any]] = {
    "simclr": (simclr.SimCLR, simclr.Settings(hidden=32, outputs=16), TWO),
    "barlow": (barlow.Barlow, barlow.Settings(hidden=32, outputs=16), TWO),
    "vicreg": (vicreg.VICReg, vicreg.Settings(hidden=32, outputs=16), TWO),
    "byol": (byol.BYOL, byol.Settings(hidden=32, outputs=16), TWO),
    "moco": (moco.MoCo, moco.Settings(hidden=32, outputs=16), TWO),
    "moco_queue": (
        moco.MoCo,
        moco.Settings(**{**moco.VERSION_2, "hidden": 32, "outputs": 16, "queue": 24}),
        TWO,
    ),
    "dino": (dino.DINO, dino.Settings(**HEAD, freeze_last=0.0), CROPS),
    "swav": (swav.SwAV, swav.Settings(prototypes=12, hidden=32, outputs=16, freeze_steps=0), CROPS),
    "swav_queue": (
        swav.SwAV,
        swav.Settings(prototypes=12, hidden=32, outputs=16, freeze_steps=0, queue=16, queue_from=0.0),
        CROPS,
    ),
    "ibot": (ibot.IBOT, ibot.Settings(**HEAD, freeze_last=0.0), Stub((32, 32, 16))),
    "ibot_ema": (
        ibot.IBOT,
        ibot.Settings(**HEAD, freeze_last=0.0, centring="ema", shared_head=True, mask_probability=0.8),
        Stub((32, 32, 16)),
    ),
    "mae": (mae.MAE, mae.Settings(decoder_width=16, decoder_depth=1, decoder_heads=2), Stub((32,))),
}
"""Class, small settings and views of every recipe, variants included."""


def make(name: str, *, trunk: nn.Module | None = None, settings: Any = None, seed: int = 0) -> Recipe:
    """Returns a recipe in training mode; equal arguments give equal weights."""
    torch.manual_seed(seed)
    if name == "multitask":
        return _labelled(trunk or Trunk()).train()
    if name == "multitaskssl":
        return _both(trunk or Trunk()).train()
    kind, small, views = MADE[name]
    backbone = trunk or (tiny_vit() if name.startswith(("ibot", "mae")) else Trunk())
    arguments = {"steps": STEPS, "lr": 0.05, "weight_decay": 0.01, "seed": 7}
    return kind(backbone, views=views, settings=settings or small, **arguments).train()  # type: ignore[call-arg]


def _labelled(trunk: nn.Module) -> multitask.Multitask:
    flat = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    values = {**multitask.PRESETS["modern"], "steps": STEPS, "warmup_steps": 0}
    return multitask.Multitask(
        trunk, {"one": 2, "two": 3}, views=Views(px=16, stain=0.05, **flat), settings=values
    )  # type: ignore[arg-type]


def _both(trunk: nn.Module) -> Recipe:
    objective = make("simclr", trunk=trunk)
    return multitaskssl.MultitaskSSL(
        trunk, multitask=_labelled(trunk), objective=objective, settings=multitaskssl.Settings(weight=0.5)
    )


def batch(recipe: Recipe, rows: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """Returns tiles of several textures, uniform numbers and, for half of the tiles, labels of two tasks."""
    generator = torch.Generator().manual_seed(1000 + seed)
    coarse = torch.rand(rows, 3, 8, 8, generator=generator)
    tiles = (F.interpolate(coarse, 32, mode="bilinear") * 255).byte().permute(0, 2, 3, 1).contiguous()
    task = torch.tensor([0, 1, -1, -1]).repeat(rows)[:rows]
    return {
        "tiles": tiles,
        "u": torch.rand(rows, recipe.uniforms, generator=generator),  # type: ignore[arg-type]
        "task": task,
        "label": torch.randint(0, 2, (rows,), generator=generator),
        "index": torch.arange(rows),
    }


def train_step(recipe: Recipe, data: dict[str, Tensor], optimizer: Any, step: int) -> dict[str, Tensor]:
    """Does one step as `histozoo.engine.Engine` does it: buffers restored and `on_drop` called where a number is not finite."""
    recipe.on_step(step)
    buffers = {k: v.clone() for k, v in recipe.named_buffers()}
    terms = recipe(data)
    terms["loss"].backward()
    gradients = [p.grad.sum() for p in recipe.parameters() if p.grad is not None]
    if not torch.isfinite(torch.stack([*terms.values(), *gradients])).all():
        for name, buffer in recipe.named_buffers():
            buffer.copy_(buffers[name])
        recipe.zero_grad(set_to_none=True)
        recipe.on_drop()
    recipe.before_step()
    optimizer.step()
    recipe.after_step()  # the Trainer calls both, whether the batch was dropped or not
    optimizer.zero_grad()
    return terms


__all__ = [
    "CROPS",
    "MADE",
    "STEPS",
    "TWO",
    "UNIFORMS",
    "Stub",
    "Trunk",
    "batch",
    "make",
    "tiny_vit",
    "train_step",
]
