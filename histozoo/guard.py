"""Numbers that are none never reach the state: a step in which one appears is undone, named in dropped.jsonl and passed over.

Looked at before anything changes: what goes in, every loss term, the norm of the gradient, and every buffer that the forward pass may have
touched (batch statistics, centres, queues). The norm is the Euclidean one, since a gradient whose square is too large for float32 poisons
Adam's second moment although it is finite itself. What the state became after a step is looked at before it is saved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from histozoo import durable, sharding
from histozoo.errors import IntegrityError
from histozoo.recipes import Recipe

LIMIT = 3
"""Dropped steps in a row after which training stops: one bad batch is an accident, three are divergence."""
SHOWN = 5
"""Names listed of each kind: where a number is none in the first layer, it is none in all."""

NAME = "dropped.jsonl"
_LARGEST = float("inf")  # the norm that is the largest absolute value


class Guard(TrainerCallback):
    """Watches the steps of one run.

    Args:
        recipe: What is trained. Buffers that are not finite as built (masks of minus infinity) are not looked at.
        run: Run folder, for dropped.jsonl.
        seed: The run's seed, which together with the samples' indices gives the batch again.
    """

    def __init__(self, recipe: Recipe, *, run: Path, seed: int) -> None:
        self.recipe, self.path, self.seed = recipe, run / NAME, seed
        self.in_a_row, self.dropped = 0, False
        self.steps: set[int] = set()
        named = {**dict(recipe.named_buffers()), **recipe.state_dict(keep_vars=True)}
        self._watched = {k for k, v in named.items() if _finite(v)}
        self._before: dict[str, Tensor] = {}

    # -- around the steps --------------------------------------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forgets what is about to be repeated, and counts how many steps were dropped in a row just before."""
        lines = _lines(self.path)
        kept = [line for line in lines if json.loads(line)["step"] < state.global_step]
        if state.is_world_process_zero and kept != lines:
            durable.write_text(self.path, "".join(line + "\n" for line in kept))
        self.steps = {json.loads(line)["step"] for line in kept}
        self.in_a_row = 0
        while state.global_step - 1 - self.in_a_row in self.steps:
            self.in_a_row += 1

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Remembers the buffers."""
        self.dropped = False
        self._before = {k: v.clone() for k, v in self.recipe.named_buffers()}

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step that was not dropped ends the row."""
        self.in_a_row = 0 if not self.dropped else self.in_a_row

    # -- one batch ---------------------------------------------------------------------------------------------------------------------

    def refuses(self, terms: Mapping[str, Tensor], inputs: Mapping[str, Any], *, step: int) -> bool:
        """Returns whether the batch just passed forward and backward was not finite; all processes agree.

        Then the buffers are as before the step, no gradient is left of it, the recipe has forgotten it, and dropped.jsonl names it.

        Args:
            terms: Scalars that the recipe returned.
            inputs: The batch, with the samples' `index`.
            step: Steps done before this one.

        Raises:
            IntegrityError: `HZ-F45`, it is the third in a row.
        """
        if not _any_process(self._sick(terms)):
            return False
        record = self._record(terms, inputs, step)
        for name, buffer in self.recipe.named_buffers():
            buffer.copy_(self._before[name])
        self.recipe.zero_grad(set_to_none=True)
        self.recipe.on_drop()
        self.dropped = True
        self.in_a_row += 1
        self.steps.add(step)
        durable.append_line(self.path, json.dumps(record))
        if self.in_a_row >= LIMIT:
            raise self._stop(record)
        return True

    def require_a_step(self, done: int) -> None:
        """Refuses a training of which nothing is left: all its steps were dropped, too few in a row to stop it earlier.

        Args:
            done: Steps that the run has done, earlier lives included.

        Raises:
            IntegrityError: `HZ-F45`; the weights are those that it began with.
        """
        if len(self.steps) < done or not done:
            return
        raise IntegrityError(
            "HZ-F45",
            "every step of the run was dropped, so nothing was trained",
            where=self.path,
            expected="at least one step whose loss, gradients and statistics are finite",
            got=f"{done} of {done} steps dropped",
            kept="dropped.jsonl and the checkpoints, which hold the weights that the run began with; nothing was finished",
            next_step="look at the tiles and at what was not finite in dropped.jsonl; then lower the learning rate or use "
            "precision = 'fp32', in another run folder",
        )

    def require_finite(self, state: Mapping[str, Tensor]) -> None:
        """Refuses a state dict that must not be saved: what follows a step (teachers, queues) may break it, too.

        Raises:
            IntegrityError: `HZ-F45`, with the first names.
        """
        bad = [k for k, v in state.items() if k in self._watched and not _finite(v)]
        if bad:
            raise IntegrityError(
                "HZ-F45",
                "the state to be saved is not finite",
                where=_first(bad),
                expected=f"{len(state)} finite tensors",
                got=f"{len(bad)} with NaN or infinity",
                kept="earlier checkpoints; this one was not written",
                next_step="look at what the recipe does after a step (teacher, queue, centre); lower the learning rate",
            )

    # -- what is wrong -----------------------------------------------------------------------------------------------------------------

    def _gradients(self) -> dict[str, Tensor]:
        return {k: p.grad for k, p in self.recipe.named_parameters() if p.grad is not None}

    def _buffers(self) -> dict[str, Tensor]:
        return {k: v for k, v in self.recipe.named_buffers() if k in self._watched and v.is_floating_point()}

    def _sick(self, terms: Mapping[str, Tensor]) -> Tensor:
        """One number for everything, so that a device is waited for once."""
        norms = [
            sharding.gathered(get_total_norm(self._gradients().values())),
            get_total_norm(self._buffers().values(), _LARGEST),
        ]
        device = next(iter(terms.values())).device
        values = [v.detach().float() for v in terms.values()] + [n.to(device, torch.float32) for n in norms]
        return ~torch.isfinite(torch.stack(values)).all()

    def _record(self, terms: Mapping[str, Tensor], inputs: Mapping[str, Any], step: int) -> dict[str, Any]:
        """Returns the line for dropped.jsonl: which kinds of numbers were none, and the first of each kind by name."""
        index = inputs["index"].tolist()
        norms = {k: sharding.gathered(g.float().norm()) for k, g in self._gradients().items()}
        where = {
            "input": [
                f"{key} of sample {index[row]}"
                for key, value in inputs.items()
                if isinstance(value, Tensor) and not _finite(value)
                for row in (~torch.isfinite(value.flatten(1)).all(1)).nonzero().flatten().tolist()
            ],
            "gradient": [k for k, n in norms.items() if not torch.isfinite(n)],
            "buffer": [k for k, v in self._buffers().items() if not _finite(v)],
        }
        kinds = [k for k, v in terms.items() if not bool(torch.isfinite(v))] + [
            k for k, v in where.items() if v
        ]
        return {
            "step": step,
            "seed": self.seed,
            "process": dist.get_rank() if dist.is_initialized() else 0,
            "samples": index,
            "not_finite": kinds or ["another process" if dist.is_initialized() else "gradient"],
            "where": {k: v[:SHOWN] for k, v in where.items() if v},
        }

    def _stop(self, record: Mapping[str, Any]) -> IntegrityError:
        return IntegrityError(
            "HZ-F45",
            f"{LIMIT} steps in a row had a loss, gradient or statistic that is not finite",
            where=f"step {record['step']}, samples in {self.path}",
            got="; ".join([", ".join(record["not_finite"]), *map(_first, record["where"].values())]),
            kept="weights, batch-norm statistics and optimizer are as before these steps; the last checkpoint is whole",
            next_step="lower the learning rate or use precision = 'fp32'",
        )


def dropped_steps(run: Path) -> int:
    """Returns how many steps of a run were dropped, as its dropped.jsonl says."""
    return len({json.loads(line)["step"] for line in _lines(run / NAME)})


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def _first(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")


def _any_process(bad: Tensor) -> bool:
    if dist.is_initialized():
        flag = bad.to(torch.int32)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)
    return bool(bad)
