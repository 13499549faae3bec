"""Tiles whose class is a texture and whose colour says nothing of it, and a trunk small enough to learn them in seconds.

Every texture looks alike after mirrors and quarter turns, has mean 0 and standard deviation 1, and modulates the densities of the stains
of its tile. Which stain prevails, or none, is the colour of a tile, one of four. The exact shares of the stains, how much stain there is
and how strong the texture is are drawn apart from both: views that keep the colour tell most tiles of a batch apart by it alone.

Shapes: N tiles, H W pixels, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from histozoo.data import stain
from histozoo.data.photometric import LUMA
from histozoo.data.ssl_views import SSLViews, one_view, two_views
from histozoo.evaluate import knn
from histozoo.recipes.base import Recipe
from tests.fakes.ssl import train_step

PX = 32
TEXTURES = ("fine", "coarse", "dots", "rings")
SHARES = ((0.5, 0.25, 0.25), (0.25, 0.5, 0.25), (0.25, 0.25, 0.5), (0.34, 0.33, 0.33))
"""Of haematoxylin, eosin and residual in the middle of each colour."""
SPREAD = 0.05
"""Half-width of a share around its middle."""
AMOUNT = (1.2, 2.0)
"""Natural-log density of the stains of a tile together."""
CONTRAST = (0.4, 0.5)
"""Standard deviation of the texture, as a share of the density."""
LOUD, FLAT = 3.0, -6.0
"""How loud the mean colour is in `Trunk`, and by what share of itself the filters' answer to it is lowered in `vit`; below 0, raised."""
MEAN, STD = (0.5, 0.3, 0.6), (0.25, 0.25, 0.25)
BANK, NEIGHBOURS = 256, 3


@dataclass(frozen=True)
class Drawn:
    """`tiles` uint8 `[N, H, W, 3]`, and two labels int64 `[N]` that say nothing of each other."""

    tiles: Tensor
    texture: Tensor
    colour: Tensor


def drawn(count: int, seed: int) -> Drawn:
    random = torch.Generator().manual_seed(seed)
    texture, colour = (
        torch.randint(len(k), (count,), generator=random)  # type: ignore[arg-type]
        for k in (TEXTURES, SHARES)
    )
    field_NHW = torch.stack([_field(TEXTURES[k], random) for k in texture.tolist()])
    u = torch.rand(count, 5, generator=random)
    share = torch.tensor(SHARES)[colour] + SPREAD * (2 * u[:, :3] - 1)
    amount = AMOUNT[0] + (AMOUNT[1] - AMOUNT[0]) * u[:, 3:4]
    stains = amount * share / share.sum(1, keepdim=True)
    contrast = CONTRAST[0] + (CONTRAST[1] - CONTRAST[0]) * u[:, 4]
    share_NHW = (1 + contrast[:, None, None] * field_NHW).clamp(min=0)
    density = stains[:, :, None, None] * share_NHW[:, None]
    pixels = stain.hed_to_rgb(density / stain.UNIT)
    return Drawn((pixels * 255).round().byte().permute(0, 2, 3, 1).contiguous(), texture, colour)


def _field(name: str, random: torch.Generator) -> Tensor:
    """Returns a texture `[H, W]` of mean 0 and standard deviation 1."""
    noise = torch.randn(2 * PX, 2 * PX, generator=random)
    if name == "fine":
        field = _smooth(noise, 0.6) - _smooth(noise, 1.2)
    elif name == "coarse":
        field = _smooth(noise, 2.0) - _smooth(noise, 4.0)
    elif name == "dots":
        field = (_smooth((noise > 2.3).float(), 1.3) * 8).clamp(max=0.5)
    else:
        middle = PX * (0.5 + torch.rand(2, generator=random))
        y, x = torch.meshgrid(torch.arange(2.0 * PX), torch.arange(2.0 * PX), indexing="ij")
        phase = 2 * math.pi * torch.rand(1, generator=random)
        field = torch.sin(torch.hypot(y - middle[0], x - middle[1]) * 2 * math.pi / 6 + phase)
    field = field[PX // 2 : -PX // 2, PX // 2 : -PX // 2]
    return (field - field.mean()) / field.std().clamp(min=1e-3)


def _smooth(x_HW: Tensor, sigma: float) -> Tensor:
    reach = torch.arange(-12.0, 13.0)
    kernel = torch.softmax(-0.5 * (reach / sigma) ** 2, 0)
    padded = F.pad(x_HW[None, None], (12, 12, 12, 12), mode="circular")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


# -- trunks and views ------------------------------------------------------------------------------------------------------------------


class Trunk(nn.Module):
    """Convolutions whose first filters do not answer to a flat colour, a layer of the mean colour beside them, and few features of both.

    The colour is loud before training and a way to it is always open, while four features have hardly room for both: training turns the
    colour down, or follows it.
    """

    def __init__(self, *, features: int = 4, loud: float = LOUD) -> None:
        super().__init__()
        self.num_features, self.loud = features, loud
        layers: list[nn.Module] = []
        for narrow, wide, side, stride in ((3, 16, 4, 2), (16, 32, 3, 2)):
            convolution = nn.Conv2d(narrow, wide, side, stride, side // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(wide), nn.ReLU()]
        with torch.no_grad():
            layers[0].weight.sub_(layers[0].weight.mean((2, 3), keepdim=True))  # type: ignore[operator,union-attr]
        self.texture = nn.Sequential(*layers)
        self.colour = nn.Sequential(nn.Linear(3, 16), nn.ReLU())
        self.out = nn.Linear(32 + 16, self.num_features)
        self.norm = nn.BatchNorm1d(self.num_features, affine=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        seen = [self.texture(x_BCHW).mean((2, 3)), self.loud * self.colour(x_BCHW.mean((2, 3)))]
        answer: Tensor = self.norm(self.out(torch.cat(seen, 1)))
        return answer


def vit(*, width: int = 16, flat: float = FLAT) -> nn.Module:
    """Returns a vision transformer of one block whose filters answer to a flat colour otherwise than timm's do, by the share `flat`."""
    trunk = timm.models.VisionTransformer(
        img_size=PX,
        patch_size=4,
        embed_dim=width,
        depth=1,
        num_heads=width // 16,
        num_classes=0,
        global_pool="avg",
        class_token=False,
        dynamic_img_size=True,
    )
    with torch.no_grad():
        weight = trunk.patch_embed.proj.weight
        weight.sub_(flat * weight.mean((2, 3), keepdim=True))
    return trunk


STRONG: dict[str, Any] = {"area": (0.6, 1.0), "aspect": 1.0, "stain_p": 1.0, "stain": 0.8}
ALONE: dict[str, Any] = dict.fromkeys(("colour_p", "grey_p", "blur_p"), 0.0)


def views(*, jitter: bool = True) -> SSLViews:
    """Returns two views: crops, mirrors and quarter turns, with stain jitter or without."""
    return two_views(PX, MEAN, STD, **STRONG, **ALONE, without=() if jitter else ("stain",))


def one(*, grey: bool = False, jitter: bool = False) -> SSLViews:
    """Returns one view: crop, mirrors and quarter turns, grey or with its colours, with stain jitter or without."""
    changes = {"stain_p": float(jitter), "grey_p": float(grey)}
    return one_view(PX, MEAN, STD, **{**STRONG, **ALONE, **changes})


# -- learning and asking ---------------------------------------------------------------------------------------------------------------


def learn(recipe: Recipe, data: Drawn, *, steps: int, rows: int, seed: int) -> None:
    """Trains with AdamW by the recipe's own schedules. Every other tile has a label: in which of two pairs of textures its own is."""
    random = torch.Generator().manual_seed(seed)
    groups = recipe.param_groups()
    rates = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(groups, fused=True)
    for step in range(steps):
        for index, group in enumerate(optimizer.param_groups):
            group["lr"] = rates[index] * recipe.lr_factor(index, step)
            decay = recipe.weight_decay_at(index, step)
            group["weight_decay"] = group["weight_decay"] if decay is None else decay
        chosen = torch.randint(len(data.tiles), (rows,), generator=random)
        u = torch.rand(rows, recipe.uniforms, generator=random)  # type: ignore[arg-type]
        task = torch.arange(rows) % 2 - 1
        batch = {"tiles": data.tiles[chosen], "u": u, "task": task, "label": data.texture[chosen] % 2}
        train_step(recipe, batch, optimizer, step)


@torch.no_grad()
def features(trunk: nn.Module, data: Drawn) -> np.ndarray:
    trained = trunk.training
    x = (data.tiles.permute(0, 3, 1, 2).float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
        STD
    ).view(3, 1, 1)
    found = trunk.eval()(x).numpy()
    trunk.train(trained)
    return found


def greyed(data: Drawn) -> Drawn:
    """Returns the tiles without their colours."""
    grey_NHW = (data.tiles.float() @ torch.tensor(LUMA)).round().byte()
    return Drawn(grey_NHW[..., None].expand(-1, -1, -1, 3).contiguous(), data.texture, data.colour)


def nearest(trunk: nn.Module, *, seed: int, grey: bool = False) -> tuple[float, float]:
    """Returns how often the nearest of 256 new tiles have the texture, and the colour, of each of 256 others; chance is 1/4."""
    bank, asked = drawn(BANK, 1000 + seed), drawn(256, 2000 + seed)
    if grey:
        bank, asked = greyed(bank), greyed(asked)
    f_ND, f_MD = features(trunk, bank), features(trunk, asked)
    scores = []
    for label in ("texture", "colour"):
        y, truth = (getattr(d, label).numpy() for d in (bank, asked))
        ((_, share_MK),) = knn.votes(f_ND, y, f_MD, settings=[NEIGHBOURS])
        scores.append(float((share_MK.argmax(1) == truth).mean()))
    return scores[0], scores[1]


def by_texture(trunk: nn.Module, *, seed: int, untold: bool = False) -> float:
    """Returns how often a tile of the same texture and another colour is nearer than one of the same colour and another texture.

    Of all such pairs around each of 256 new tiles: 1 where texture alone decides, 0 where colour does.

    Args:
        trunk: Gives features.
        seed: Of the tiles.
        untold: Only pairs that the labels of `learn` do not tell apart.
    """
    bank, asked = drawn(BANK, 1000 + seed), drawn(256, 2000 + seed)
    f_ND, f_MD = (F.normalize(torch.from_numpy(features(trunk, data)), dim=1) for data in (bank, asked))
    texture_MN = asked.texture[:, None] == bank.texture
    colour_MN = asked.colour[:, None] == bank.colour
    other_MN = ~texture_MN & colour_MN
    if untold:
        other_MN &= asked.texture[:, None] % 2 == bank.texture % 2
    shares = [
        (near_N[same_N][:, None] > near_N[other_N]).float().mean()
        for near_N, same_N, other_N in zip(f_MD @ f_ND.T, texture_MN & ~colour_MN, other_MN, strict=True)
    ]
    return float(torch.stack(shares).mean())
