"""What is fine-tuned: a trunk and a linear head that starts at zero, and which of their parameters may move.

Shapes: B batch, H W pixels, D features, K classes, E looks at the validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from histozoo.data.views import Views
from histozoo.errors import UsageError
from histozoo.evaluate.finetune import lora
from histozoo.evaluate.finetune.settings import FinetuneSettings, Mode
from histozoo.recipes import Recipe


class Look(NamedTuple):
    """The validation rows after `step` steps: balanced accuracy, and mean cross-entropy with classes counting equally, in nats."""

    step: int
    score: float
    loss: float

    def beats(self, other: Look | None) -> bool:
        """Whether this later look is better: a higher score, or the same with a lower loss."""
        return other is None or (self.score, -self.loss) > (other.score, -other.loss)


class Kept(nn.Module):
    """The looks so far and the weights of the best; they travel in every checkpoint, so that a kill never parts them from the training."""

    def __init__(self) -> None:
        super().__init__()
        self.curve: list[Look] = []
        self.weights: dict[str, Tensor] = {}
        self.seconds = 0.0

    @property
    def best(self) -> Look | None:
        """The best look, the earliest of equals."""
        best: Look | None = None
        for look in self.curve:
            best = look if look.beats(best) else best
        return best

    def note(self, look: Look, weights: Mapping[str, Tensor]) -> None:
        """Takes a look, and copies of the weights where it is the best so far."""
        self.curve = [*(earlier for earlier in self.curve if earlier.step < look.step), look]
        if self.best is look:
            self.weights = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in weights.items()}

    def exhausted(self, patience: int) -> bool:
        """Whether the last `patience` looks were no better than one before them."""
        late = [look for look in self.curve if self.best is not None and look.step > self.best.step]
        return 0 < patience <= len(late)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.curve:
            destination[f"{prefix}curve_E3"] = torch.tensor(self.curve, dtype=torch.float64)
            destination[f"{prefix}seconds"] = torch.tensor([self.seconds], dtype=torch.float64)
        destination.update({f"{prefix}weights.{k}": v for k, v in self.weights.items()})

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
        curve_E3 = state_dict.get(f"{prefix}curve_E3", torch.empty(0, 3))
        self.curve = [Look(int(step), score, loss) for step, score, loss in curve_E3.tolist()]
        self.seconds = float(state_dict.get(f"{prefix}seconds", torch.zeros(1)))
        start = f"{prefix}weights."
        self.weights = {k.removeprefix(start): v for k, v in state_dict.items() if k.startswith(start)}


class Finetuning(Recipe):
    """A trunk and a linear head with the cross-entropy of one task.

    The head starts at zero: classes are equally probable, whatever the scale of a model's features, and no random head disturbs the trunk.

    Args:
        trunk: Changed in place; its output is `[B, D]`.
        features: D.
        mode: What of the trunk is trained.
        views: Augmentation; its mean and std are the model's.
        weight_K: Weight of each class in the loss.
        settings: Rates and budget.
        lr: Highest learning rate of the trunk.

    Raises:
        UsageError: `HZ-I68`, the mode does not fit the trunk.
    """

    def __init__(
        self,
        trunk: nn.Module,
        *,
        features: int,
        mode: Mode,
        views: Views,
        weight_K: Tensor,
        settings: FinetuneSettings,
        lr: float,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.kept = trunk, nn.Linear(features, len(weight_K)), Kept()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.mode, self.views, self.settings, self.lr = mode, views, settings, lr
        self.register_buffer("weight_K", weight_K.float(), persistent=False)
        self._prepare()
        self.train()

    def _prepare(self) -> None:
        """Says which of the trunk's parameters are trained."""
        s, trunk = self.settings, self.backbone
        trunk.requires_grad_(self.mode != "head_only")
        if self.mode == "frozen_bn":
            if not batch_norms(trunk):
                raise _unfit(
                    trunk, "frozen_bn", "a batch-norm layer", "use mode full, which is the same here"
                )
            for layer in batch_norms(trunk):
                layer.requires_grad_(False)
        if self.mode == "layer_decay" and not hasattr(trunk, "group_matcher"):
            raise _unfit(
                trunk, "layer_decay", "timm's group_matcher, which numbers the layers", "use mode full"
            )
        if self.mode == "lora":
            lora.add(trunk, rank=s.rank, alpha=s.alpha)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the loss of one batch: the mean over tiles of the weighted cross-entropy.

        Args:
            batch: `tiles` uint8 `[B, H, W, 3]`, `label` int64 `[B]`, `u` float32 `[B, P]` as in `histozoo.data.mixing`.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.mode != "head_only"):
            f_BD = self.backbone(self.views(batch["tiles"], batch["u"]))
        logits_BK = self.head(f_BD.float()).float()
        entropy_B = F.cross_entropy(logits_BK, batch["label"], reduction="none")
        weight_K = self.weight_K
        assert isinstance(weight_K, Tensor)
        return {"loss": (weight_K[batch["label"]] * entropy_B).mean()}

    def classifier(self) -> nn.Module:
        """Returns trunk and head as one module from normalised pixels `[B, 3, H, W]` to logits `[B, K]`, in eval mode."""
        return nn.Sequential(self.backbone, self.head).eval()

    def train(self, mode: bool = True) -> Finetuning:
        """Sets training mode, except for what must stay as it came: batch norm, or the whole trunk."""
        super().train(mode)
        if self.mode == "head_only":
            self.backbone.eval()
        if self.mode in ("frozen_bn", "lora"):
            for layer in batch_norms(self.backbone):
                layer.eval()
        return self

    def moving(self) -> dict[str, Tensor]:
        """Returns what training changes, by its name in the state dict: trained parameters, and buffers."""
        trained = {k for k, p in self.named_parameters() if p.requires_grad}
        buffers = {k for k, _ in self.named_buffers()}
        return {k: v for k, v in self.state_dict().items() if k in trained | buffers}

    @torch.no_grad()
    def restore(self) -> None:
        """Takes the weights of the best look."""
        own = self.moving()
        for name, value in self.kept.weights.items():
            own[name].copy_(value)

    # -- what the engine asks ----------------------------------------------------------------------------------------------------------

    def param_groups(self) -> list[dict[str, Any]]:
        """Returns what is trained, with its learning rate and, for matrices and kernels alone, weight decay."""
        s, lr = self.settings, self.lr
        groups = _split(self.head, lr=lr * s.head_lr_factor, decay=s.weight_decay)
        if self.mode == "layer_decay":
            return groups + layered(self.backbone, lr=lr, decay=s.weight_decay, factor=s.layer_decay)
        factor = s.adapter_lr_factor if self.mode == "lora" else 1.0
        return groups + _split(self.backbone, lr=lr * factor, decay=s.weight_decay)

    def lr_factor(self, group: int, step: int) -> float:
        """Linear warm-up, then a cosine to zero."""
        warm, steps = self.settings.warmup_steps, self.settings.steps
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def batch_norms(trunk: nn.Module) -> list[nn.Module]:
    """Returns the layers that carry running statistics of batches."""
    return [m for m in trunk.modules() if isinstance(m, _BatchNorm)]


def layered(trunk: nn.Module, *, lr: float, decay: float, factor: float) -> list[dict[str, Any]]:
    """Returns one or two groups per layer, with the rates that timm gives the same architecture with a head of its own.

    The last block's rate is `lr * factor`, that of the block below it `lr * factor**2`, and so on down to the stem. What a layer is, timm
    says (`group_matcher`): a last norm goes with the last block, or with the head where timm counts it as part of that.
    """
    from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]

    exempt = trunk.no_weight_decay() if hasattr(trunk, "no_weight_decay") else ()  # type: ignore[operator]
    # Stands for the head while layers are counted: without one the last block would be the top layer.
    trunk.register_parameter(_HEAD, nn.Parameter(torch.zeros(1)))
    try:
        groups = param_groups_layer_decay(
            trunk, weight_decay=decay, no_weight_decay_list=exempt, layer_decay=factor
        )
        head = trunk.get_parameter(_HEAD)
    finally:
        delattr(trunk, _HEAD)
    found = [
        {
            "params": [p for p in g["params"] if p is not head],
            "lr": lr * g["lr_scale"],
            "weight_decay": g["weight_decay"],
        }
        for g in groups
    ]
    return [g for g in found if g["params"]]


_HEAD = "head_to_be"


def _split(module: nn.Module, *, lr: float, decay: float) -> list[dict[str, Any]]:
    learnt = [p for p in module.parameters() if p.requires_grad]
    parts = (([p for p in learnt if p.ndim > 1], decay), ([p for p in learnt if p.ndim <= 1], 0.0))
    return [{"params": params, "lr": lr, "weight_decay": wd} for params, wd in parts if params]


def _unfit(trunk: nn.Module, mode: str, needed: str, instead: str) -> UsageError:
    return UsageError(
        "HZ-I68",
        f"the model cannot be fine-tuned with mode {mode}",
        expected=needed,
        got=f"{type(trunk).__name__} without one",
        kept="nothing was trained",
        next_step=instead,
    )
