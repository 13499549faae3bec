"""Batch-norm transplant: give pretrained batch norms the statistics of new data without changing the function they compute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def transplant_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Moves every affine batch norm of `model` to the statistics of `batches`; outputs in eval mode stay the same.

    Per layer, mu_t and var_t are the means over the batches of the batch mean and of the unbiased batch variance at the layer's input.
    Then gamma_t = gamma_s * sqrt((var_t + eps) / (var_s + eps)) and beta_t = beta_s + gamma_s * (mu_t - mu_s) / sqrt(var_s + eps):
    Mormont, Geurts, Marée, JBHI 25(2):412-421 (2021), "batch normalisation adaptation". Call it before the optimizer is built.

    Args:
        model: Any module; its training mode is restored.
        batches: Normalised pixels `[B, 3, H, W]`; 20 mixed batches that hold all tasks in the paper.
    """
    norms = [
        m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.affine and m.track_running_stats
    ]
    statistics: dict[nn.Module, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance_C, mean_C = torch.var_mean(inputs[0].float(), dim=(0, 2, 3))
        statistics[module].append((mean_C, variance_C))

    handles = [m.register_forward_pre_hook(record) for m in norms]
    training = model.training
    model.eval()
    try:
        for x_BCHW in batches:
            model(x_BCHW)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    for norm in norms:
        means, variances = zip(*statistics[norm], strict=True)
        _set_statistics(norm, torch.stack(means).mean(0), torch.stack(variances).mean(0))


def _set_statistics(norm: nn.BatchNorm2d, mean_C: Tensor, variance_C: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None:
        return
    old_std_C = (norm.running_var + norm.eps).sqrt()
    gamma_C = norm.weight.clone()
    norm.bias.add_(gamma_C * (mean_C - norm.running_mean) / old_std_C)
    norm.weight.copy_(gamma_C * (variance_C + norm.eps).sqrt() / old_std_C)
    norm.running_mean.copy_(mean_C)
    norm.running_var.copy_(variance_C)
