"""What several self-supervised recipes share: gathering over processes, heads, teachers, schedules, parameter groups.

Nothing here is a recipe and no recipe inherits from another. With W processes the gradients of the W losses are averaged (as
DistributedDataParallel does); everything below is written so that this average is the gradient of the loss of the joint batch.

Shapes: B samples of this process, W processes, V views, D features.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


class ManyViews(Protocol):
    """What turns uint8 tiles `[B, H, W, 3]` and uniform numbers `[B, uniforms]` into V normalised views `[B, 3, px, px]`."""

    @property
    def uniforms(self) -> int:
        """How many uniform numbers each sample needs."""

    def __call__(self, tiles_BHWC: Tensor, u_BP: Tensor, /) -> list[Tensor]:
        """Returns global views first, then local crops."""


# -- several processes ---------------------------------------------------------------------------------------------------------------


def world() -> int:
    """Returns the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first_row(rows: int) -> int:
    """Returns where the `rows` rows of this process begin in the joint batch."""
    return rows * dist.get_rank() if dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BD: Tensor) -> Tensor:
        parts = [torch.empty_like(x_BD, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, x_BD.contiguous())
        ctx.rows = len(x_BD)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        first = first_row(ctx.rows)
        return grad[first : first + ctx.rows]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous().clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad


def gather(x_BD: Tensor) -> Tensor:
    """Returns the rows of all processes in order of rank, `[W * B, D]`; the gradient is the sum over all processes' losses."""
    return x_BD if world() == 1 else _Gather.apply(x_BD)


def joint_sum(x: Tensor) -> Tensor:
    """Returns the sum over processes; the gradient is the sum over all processes' losses."""
    return x if world() == 1 else _Sum.apply(x)


def joint_mean(x_BD: Tensor) -> Tensor:
    """Returns the mean row over all processes, `[D]`; processes may hold different numbers of rows, none included."""
    rows = joint_sum(x_BD.new_tensor(float(len(x_BD))))
    return joint_sum(x_BD.sum(0)) / rows.clamp(min=1)


class JointBatchNorm(nn.BatchNorm1d):
    """Batch norm of `[B, D]` over the joint batch of all processes; on one process it is `nn.BatchNorm1d`.

    torch's own SyncBatchNorm does the same on GPUs only.
    """

    def forward(self, x_BD: Tensor) -> Tensor:
        """Returns the normalised rows."""
        if not self.training or world() == 1:
            return super().forward(x_BD)
        n = len(x_BD) * world()
        x = x_BD.float()
        mean_D = joint_sum(x.sum(0)) / n
        var_D = joint_sum((x - mean_D).square().sum(0)) / n
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            self.running_mean.lerp_(mean_D.detach(), self.momentum)
            self.running_var.lerp_(var_D.detach() * (n / (n - 1)), self.momentum)
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        y = (x - mean_D) * torch.rsqrt(var_D + self.eps)
        return (y * self.weight + self.bias if self.affine else y).to(x_BD.dtype)


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Runs a loss outside autocast, with half-precision tensors raised to float32."""

    def raised(value: Any) -> Any:
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)).device.type
        with torch.autocast(device, enabled=False):
            return function(*map(raised, args), **{k: raised(v) for k, v in kwargs.items()})

    return run


# -- networks ------------------------------------------------------------------------------------------------------------------------


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Makes the first weights inside the block a function of `seed`; the global generator is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def width(backbone: nn.Module) -> int:
    """Returns the length D of what `backbone` returns."""
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]


def mlp(
    sizes: Sequence[int], *, norm: bool = True, last_norm: bool = False, last_bias: bool = True
) -> nn.Sequential:
    """Returns linear layers of the given sizes with batch norm and ReLU between them.

    Args:
        sizes: Width of the input, the hidden layers and the output.
        norm: Batch norm after every hidden layer; its linear layer then has no bias, which the norm would take away.
        last_norm: Batch norm without scale and shift after the last layer.
        last_bias: Bias of the last layer, where no norm follows it.
    """
    layers: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(wide, narrow, bias=not norm)]
        layers += [JointBatchNorm(narrow)] if norm else []
        layers += [nn.ReLU()]
    layers += [nn.Linear(sizes[-2], sizes[-1], bias=last_bias and not last_norm)]
    layers += [JointBatchNorm(sizes[-1], affine=False)] if last_norm else []
    return nn.Sequential(*layers)


class PrototypeHead(nn.Module):
    """The head of DINO: three linear layers with GELU, unit length, then cosine to `outputs` learned directions.

    M. Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021 (arXiv 2104.14294), appendix C: hidden width
    2048, bottleneck 256, truncated normal 0.02, a weight-normalised last layer whose length is fixed at 1.
    """

    def __init__(self, features: int, *, hidden: int, bottleneck: int, outputs: int) -> None:
        super().__init__()
        sizes = (features, hidden, hidden, bottleneck)
        layers: list[nn.Module] = []
        for wide, narrow in itertools.pairwise(sizes):
            layers += [nn.Linear(wide, narrow), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.prototypes = nn.Parameter(torch.empty(outputs, bottleneck))
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(self, f_BD: Tensor) -> Tensor:
        """Returns scores `[B, outputs]` in [-1, 1]."""
        z = F.normalize(self.mlp(f_BD), dim=-1, eps=1e-6)
        return F.linear(z, F.normalize(self.prototypes, dim=-1, eps=1e-6).to(z.dtype))


def frozen_copy(module: nn.Module) -> nn.Module:
    """Returns a copy without gradients: a teacher at its start."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Moves the teacher's parameters: t <- momentum * t + (1 - momentum) * s. Batch statistics are the teacher's own."""
    for t, s in zip(teacher.parameters(), student.parameters(), strict=True):
        t.lerp_(s.to(t.dtype), 1 - momentum)


def by_size(backbone: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """Returns features `[V, B, D]`; neighbouring views of one size pass through the backbone as one batch."""
    starts = [i for i, x in enumerate(views) if i == 0 or x.shape[-1] != views[i - 1].shape[-1]]
    ends = [*starts[1:], len(views)]
    features = [backbone(torch.cat(tuple(views[a:b]))) for a, b in zip(starts, ends, strict=True)]
    f_MD = torch.cat(features)
    return f_MD.view(len(views), -1, *f_MD.shape[1:])


# -- schedules and parameter groups --------------------------------------------------------------------------------------------------


def cosine(start: float, end: float, *, step: int, steps: int) -> float:
    """Returns the value at `step` of half a cosine from `start` at step 0 to `end` at step `steps`."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))


def warmup_cosine(step: int, *, steps: int, warmup: float, final: float = 0.0) -> float:
    """Returns the factor on the learning rate: linear to 1 over the share `warmup` of `steps`, then half a cosine to `final`."""
    first = round(warmup * steps)
    if step < first:
        return (step + 1) / first
    return cosine(1.0, final, step=step - first, steps=steps - first)


def param_groups(
    modules: Sequence[nn.Module | nn.Parameter], *, lr: float, weight_decay: float, **extra: Any
) -> list[dict[str, Any]]:
    """Returns two groups: matrices and kernels with weight decay; biases, norms and other vectors without, nor adapted by LARS."""
    parameters: dict[int, nn.Parameter] = {}
    for module in modules:
        found = [module] if isinstance(module, nn.Parameter) else module.parameters()
        parameters |= {id(p): p for p in found if p.requires_grad}
    matrices = [p for p in parameters.values() if p.ndim > 1]
    vectors = [p for p in parameters.values() if p.ndim <= 1]
    return [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay, "adapt": True, **extra},
        {"params": vectors, "lr": lr, "weight_decay": 0.0, "adapt": False, **extra},
    ]
