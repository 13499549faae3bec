"""What a training step costs: each recipe beside lightly's transform, heads and loss in a plain torch loop, same trunk, batch and views.

    pip install -e '.[all,bench]'
    python benchmarks/ssl_step.py [--rounds 7] [--threads 1] [--batch 32] [--px 96] [--only simclr --only dino]

A step is everything after decoding: views of the tiles, forward, loss, backward, AdamW, and where there is one the teacher, queue or
centre. Ours begins with uint8 tiles and is called as the training loop calls it, with its fused AdamW; theirs begins with PIL images, and
its loop is the one of lightly's own examples for the method (no loader on either side). Operations and strengths of the views, widths of
heads and numbers of outputs are the same on both sides. Trunks: ResNet-18, ViT-Tiny with tiles of 16 px for iBOT and MAE. The sides take
turns, so that a ratio pairs neighbours in time; medians over the rounds are printed, by the processor, which a busy machine disturbs less,
and by the clock.

Before anything is timed, both sides' losses are compared on the same vectors where both define the same number.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmarks.views import COLOUR, MEAN, PLAIN, STD, Cost, per_image, tiles, timed
from histozoo.data.ssl_views import SSLViews, multi_crop, one_view, two_views
from histozoo.recipes import barlow, byol, dino, ibot, mae, moco, parts, simclr, swav, vicreg
from histozoo.recipes.base import Recipe

HIDDEN, OUTPUTS, PROTOTYPES, QUEUE, MOMENTUM = 2048, 128, 3000, 4096, 0.99
DECODER = {"decoder_width": 192, "decoder_depth": 2, "decoder_heads": 3}
TOKEN = 16
Transform = Callable[[Image.Image], list[Tensor]]


def trunk(name: str, px: int) -> nn.Module:
    torch.manual_seed(0)
    if name in ("ibot", "mae"):
        return timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=px, dynamic_img_size=True)
    return timm.create_model("resnet18", num_classes=0)


# -- views of both sides ---------------------------------------------------------------------------------------------------------------


def both_views(name: str, px: int) -> tuple[SSLViews, Transform]:
    """Returns our views, and lightly's transform of one image with the same operations."""
    from lightly.transforms import DINOTransform, MAETransform, SimCLRTransform

    if name == "mae":
        ours = one_view(px, MEAN, STD, area=(0.2, 1.0), rot90=False)
        return ours, MAETransform(input_size=px)
    if name not in ("swav", "dino", "ibot"):
        return two_views(px, MEAN, STD, area=(0.08, 1.0), **PLAIN, **COLOUR), SimCLRTransform(input_size=px)
    local, count = px // 2, 4
    strong = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "sigma": (0.1, 2.0)}
    areas = {"area": (0.4, 1.0), "local_area": (0.05, 0.4)}
    ours = multi_crop(px, local, count, mean=MEAN, std=STD, **areas, **PLAIN, **strong)
    crops = {"global_crop_size": px, "local_crop_size": local, "n_local_views": count}
    return ours, DINOTransform(global_crop_scale=(0.4, 1.0), local_crop_scale=(0.05, 0.4), **crops)


# -- our side --------------------------------------------------------------------------------------------------------------------------

HEAD = {"hidden": HIDDEN, "outputs": OUTPUTS}
PROTOTYPE_HEAD = {"hidden": HIDDEN, "bottleneck": 256, "outputs": PROTOTYPES}
OURS: dict[str, tuple[type[Recipe], Any]] = {
    "simclr": (simclr.SimCLR, simclr.Settings(**HEAD)),
    "barlow": (barlow.Barlow, barlow.Settings(hidden=HIDDEN, outputs=HIDDEN)),
    "vicreg": (vicreg.VICReg, vicreg.Settings(hidden=HIDDEN, outputs=HIDDEN)),
    "byol": (byol.BYOL, byol.Settings(**HEAD)),
    "moco_queue": (moco.MoCo, moco.Settings(**{**moco.VERSION_2, **HEAD, "queue": QUEUE})),
    "swav": (swav.SwAV, swav.Settings(prototypes=PROTOTYPES, **HEAD)),
    "dino": (dino.DINO, dino.Settings(**PROTOTYPE_HEAD)),
    "ibot": (ibot.IBOT, ibot.Settings(**PROTOTYPE_HEAD, centring="ema", koleo_weight=0.1)),
    "mae": (mae.MAE, mae.Settings(**DECODER)),
}


def our_recipe(name: str, views: parts.ManyViews, backbone: nn.Module) -> Recipe:
    kind, settings = OURS[name]
    given = {"views": views, "settings": settings, "steps": 1000, "lr": 1e-4, "weight_decay": 0.05, "seed": 0}
    return kind(backbone, **given).train()  # type: ignore[call-arg]


def our_step(name: str, views: SSLViews, tiles_BHWC: Tensor, px: int) -> Callable[[], Tensor]:
    recipe = our_recipe(name, views, trunk(name, px))
    optimizer = torch.optim.AdamW(recipe.param_groups(), fused=True)  # as histozoo.engine builds it
    steps = itertools.count(100)  # beyond what is frozen at first

    def step() -> Tensor:
        recipe.on_step(next(steps))
        u = torch.rand(len(tiles_BHWC), recipe.uniforms)  # type: ignore[arg-type]
        loss = recipe({"tiles": tiles_BHWC, "u": u})["loss"]
        loss.backward()
        recipe.before_step()
        optimizer.step()
        recipe.after_step()
        optimizer.zero_grad()
        return loss.detach()

    return step


# -- their side ------------------------------------------------------------------------------------------------------------------------


def _prototypes(wide: int) -> nn.Module:
    from lightly.models.modules import DINOProjectionHead

    return DINOProjectionHead(wide, HIDDEN, 256, PROTOTYPES, freeze_last_layer=-1)


def _teacher(student: nn.Module, wide: int) -> nn.Module:
    """Returns a frozen copy; a head with torch's old weight norm cannot be copied, and is made anew with the same weights."""
    if type(student).__name__ != "DINOProjectionHead":
        return parts.frozen_copy(student)
    twin = _prototypes(wide)
    twin.load_state_dict(student.state_dict())
    return twin.requires_grad_(False)


class Theirs(nn.Module):
    """A method as lightly's examples write it: `modules` that learn, teachers of some of them, `loss_of` the views."""

    def __init__(self, name: str, px: int) -> None:
        from lightly import loss
        from lightly.models import modules as m
        from lightly.models.modules import heads

        super().__init__()
        self.name, self.trunk = name, trunk(name, px)
        wide = parts.width(self.trunk)
        self.head: nn.Module = nn.Identity()
        self.predictor: nn.Module = nn.Identity()
        self.criterion: Any = None
        if name == "simclr":
            self.head, self.criterion = m.SimCLRProjectionHead(wide, HIDDEN, OUTPUTS), loss.NTXentLoss(0.1)
        elif name == "barlow":
            self.head, self.criterion = (
                m.BarlowTwinsProjectionHead(wide, HIDDEN, HIDDEN),
                loss.BarlowTwinsLoss(),
            )
        elif name == "vicreg":
            self.head, self.criterion = heads.VICRegProjectionHead(wide, HIDDEN, HIDDEN), loss.VICRegLoss()
        elif name == "byol":
            self.head = m.BYOLProjectionHead(wide, HIDDEN, OUTPUTS)
            self.predictor = m.BYOLPredictionHead(OUTPUTS, HIDDEN, OUTPUTS)
            self.criterion = loss.NegativeCosineSimilarity()
        elif name == "moco_queue":
            self.head = m.MoCoProjectionHead(wide, HIDDEN, OUTPUTS)
            self.criterion = loss.NTXentLoss(0.2, memory_bank_size=(QUEUE, OUTPUTS))
        elif name == "swav":
            self.head = m.SwaVProjectionHead(wide, HIDDEN, OUTPUTS)
            self.predictor, self.criterion = m.SwaVPrototypes(OUTPUTS, PROTOTYPES), loss.SwaVLoss()
        elif name in ("dino", "ibot"):
            self.head, self.criterion = _prototypes(wide), loss.DINOLoss(PROTOTYPES)
        if name == "ibot":
            self.masked = m.MaskedVisionTransformerTIMM(vit=self.trunk)
            self.predictor = _prototypes(wide)
            self.token_criterion, self.koleo = loss.IBOTPatchLoss(PROTOTYPES), loss.KoLeoLoss()
        if name == "mae":
            self._mae(m, px, wide)
        taught = name in ("byol", "moco_queue", "dino", "ibot")
        followed = (self.trunk, self.head, *([self.predictor] if name == "ibot" else []))
        self.pairs = [(s, _teacher(s, wide)) for s in followed] if taught else []
        if name == "ibot":
            self.masked_teacher = m.MaskedVisionTransformerTIMM(vit=self.pairs[0][1])
            self.masked_teacher.requires_grad_(False)

    def _mae(self, m: Any, px: int, wide: int) -> None:
        self.masked = m.MaskedVisionTransformerTIMM(vit=self.trunk)
        shape = {"num_patches": (px // TOKEN) ** 2, "patch_size": TOKEN, "embed_dim": wide}
        width, depth, heads = DECODER.values()
        decoder = {"decoder_embed_dim": width, "decoder_depth": depth, "decoder_num_heads": heads}
        self.head, self.criterion = m.MAEDecoderTIMM(**shape, **decoder), nn.MSELoss()

    def taught(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            answer: Tensor = self.pairs[1][1](self.pairs[0][1](x))
        return answer

    def loss_of(self, views: list[Tensor]) -> Tensor:
        if self.name == "mae":
            return self._drawn(views[0])
        if self.name == "ibot":
            return self._ibot(views)
        if self.name == "moco_queue":
            query = self.head(self.trunk(views[0]))
            return self.criterion(query, self.taught(views[1]))  # type: ignore[no-any-return]
        said = [self.head(self.trunk(x)) for x in views]
        if self.name == "byol":
            answers = [self.predictor(z) for z in said]
            taught = [self.taught(x) for x in views]
            both = self.criterion(answers[0], taught[1]) + self.criterion(answers[1], taught[0])
            return 0.5 * both  # type: ignore[no-any-return]
        if self.name == "swav":
            scores = [self.predictor(F.normalize(z, dim=1)) for z in said]
            return self.criterion(scores[:2], scores[2:])  # type: ignore[no-any-return]
        if self.name == "dino":
            return self.criterion([self.taught(x) for x in views[:2]], said, epoch=0)  # type: ignore[no-any-return]
        return self.criterion(*said)  # type: ignore[no-any-return]

    def _drawn(self, x: Tensor) -> Tensor:
        from lightly.models import utils

        shape = (len(x), self.masked.sequence_length)
        keep, hidden = utils.random_token_mask(size=shape, mask_ratio=0.75)
        seen = self.head.embed(self.masked.encode(images=x, idx_keep=keep))
        full = utils.repeat_token(self.head.mask_token, shape)
        full = utils.set_at_index(full, keep, seen.type_as(full))
        guess = self.head.predict(utils.get_at_index(self.head.decode(full), hidden))
        target = utils.get_at_index(utils.patchify(x, TOKEN), hidden - 1)
        return self.criterion(guess, utils.normalize_mean_var(target))  # type: ignore[no-any-return]

    def _ibot(self, views: list[Tensor]) -> Tensor:
        from lightly.models import utils

        x, rows = torch.cat(views[:2]), len(views[0])
        side = int((self.masked.sequence_length - 1) ** 0.5)
        hidden = utils.random_block_mask(
            size=(len(x), side, side), min_num_masks_per_block=1, device=x.device
        )
        padded = F.pad(hidden.flatten(1), (1, 0))
        with torch.no_grad():
            taught = self.masked_teacher.encode(x)
            crops = self.pairs[1][1](taught[:, 0])
            tokens = self.pairs[2][1](taught[padded])
        seen = self.masked.encode(images=x, mask=padded)
        said = [*self.head(seen[:, 0]).chunk(2), *(self.head(self.trunk(v)) for v in views[2:])]
        loss = self.criterion(list(crops.chunk(2)), said, epoch=0)
        loss = loss + self.token_criterion(tokens, self.predictor(seen[padded]), mask=hidden)
        return loss + 0.1 * sum(self.koleo(f) for f in seen[:, 0].split(rows))  # type: ignore[no-any-return]

    def follow(self) -> None:
        from lightly.models.utils import update_momentum

        for student, teacher in self.pairs:
            update_momentum(student, teacher, m=MOMENTUM)
        if self.name == "swav":
            self.predictor.normalize()  # type: ignore[operator]


def their_step(name: str, transform: Transform, images: list[Image.Image], px: int) -> Callable[[], Tensor]:
    model = Theirs(name, px).train()
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=1e-4, weight_decay=0.05)

    def step() -> Tensor:
        loss = model.loss_of(per_image(transform, images))
        loss.backward()
        optimizer.step()
        model.follow()
        optimizer.zero_grad()
        return loss.detach()

    return step


# -- both ------------------------------------------------------------------------------------------------------------------------------


def agreement() -> dict[str, float]:
    """Returns the relative difference of both sides' losses on the same vectors; only methods whose losses are the same number."""
    from lightly import loss

    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(16, 24, generator=random, dtype=torch.float64) for _ in range(2))
    scores = torch.randn(4, 16, 24, generator=random, dtype=torch.float64)
    p = dino.targets(scores[:2], torch.zeros(24), temperature=0.04)
    invariance, variance, covariance = vicreg.terms(a, b)
    sides = {
        "simclr": (simclr.nt_xent(a, b, temperature=0.1), loss.NTXentLoss(0.1)(a, b)),
        "vicreg": (25 * invariance + 25 * variance + covariance, loss.VICRegLoss()(a, b)),
        "byol": (byol.regression(a, b), 2 + 2 * loss.NegativeCosineSimilarity()(a, b)),
        "swav": (
            dino.cross_entropy(
                scores,
                torch.stack([swav.sinkhorn(s, epsilon=0.05, rounds=3) for s in scores[:2]]),
                temperature=0.1,
            ),
            loss.SwaVLoss()(list(scores[:2]), list(scores[2:])),
        ),
        "dino": (
            dino.cross_entropy(scores, p, temperature=0.1),
            loss.DINOLoss(24).double()(list(scores[:2]), list(scores), teacher_temp=0.04),
        ),
        "koleo": (ibot.koleo(a), loss.KoLeoLoss()(a)),
    }
    return {name: abs(float(mine / theirs) - 1) for name, (mine, theirs) in sides.items()}


def report(name: str, found: list[tuple[Cost, Cost]]) -> None:
    mine, theirs = (1e3 * statistics.median(pair[i].cpu for pair in found) for i in (0, 1))
    cpu = sorted(b.cpu / a.cpu for a, b in found)
    wall = statistics.median(b.wall / a.wall for a, b in found)
    print(
        f"  {name:<12}{mine:8.0f} ms   theirs {theirs:8.0f} ms   x {statistics.median(cpu):5.2f} CPU "
        f"({cpu[0]:.2f} to {cpu[-1]:.2f})   x {wall:5.2f} clock",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--only", action="append", choices=list(OURS), default=[])
    parser.add_argument("--tiles", type=Path, default=Path(__file__).parents[1] / "examples/tiles")
    args = parser.parse_args()
    try:
        import lightly
    except ImportError:
        print("nothing is compared: lightly cannot be imported; pip install -e '.[bench]'")
        return
    torch.set_num_threads(args.threads)
    print(f"lightly {lightly.__version__}, torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}")
    print("  losses differ by", ", ".join(f"{k} {v:.1e}" for k, v in agreement().items()))
    print(
        f"per step, batches of {args.batch}, views of {args.px} px, {args.rounds} rounds, {args.threads} threads"
    )
    tiles_BHWC, images = tiles(args.tiles, args.px, args.batch)
    for name in args.only or OURS:
        views, transform = both_views(name, args.px)
        ours, theirs = (
            our_step(name, views, tiles_BHWC, args.px),
            their_step(name, transform, images, args.px),
        )
        ours(), theirs()
        report(name, [(timed(ours), timed(theirs)) for _ in range(args.rounds)])
    print(
        "  moco (version 3), swav with a queue, multitaskssl: lightly has no whole method to put beside them"
    )


if __name__ == "__main__":
    main()
