"""The one training loop: transformers.Trainer, given whole checkpoints, a guard against non-finite numbers and polite signals.

Every objective runs here. What the Trainer brings (torchrun, mixed precision, accumulation, progress bar) is used as it is; what it does
not promise is added: checkpoints that are whole or absent, data order and dropout as functions of the seed and the step, steps with
non-finite values dropped with their side effects undone, and SIGTERM answered by a checkpoint and exit code 75.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler, default_collate
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from histozoo import artifact, checkpoints, continuing, durable, health, sharding
from histozoo.experiment import Experiment
from histozoo.guard import Guard
from histozoo.hooks import LossParts, Metrics, Progress, RecipeHooks, Signals
from histozoo.recipes import Recipe, parts
from histozoo.recipes.lars import optimizer_of
from histozoo.run_folder import contiguous

Evaluate = Callable[[Recipe], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The fields of an `Experiment` that the engine reads, for trainings that are no experiment (a protocol's fits)."""

    steps: int
    batch_size: int
    seed: int
    lr: float
    eval_every: int
    save_every: int
    accumulate: int = 1
    max_grad_norm: float = 0.0
    precision: str = "fp32"
    optimizer: str = "adamw"
    momentum: float = 0.9
    shard: bool = False


class Engine(Trainer):
    """Trains a recipe.

    Args:
        recipe: The module to train; `recipe.forward(batch)` returns the loss.
        experiment: Steps, batch size, optimizer, schedule.
        run: Run folder for checkpoints and logs.
        train_dataset: Map-style dataset in training order.
        evaluate_recipe: Returns validation metrics; called every `eval_every` steps and at the end.
        workers: Loader processes.
        device: `cpu`, or `auto` for what is there.
        optimizer_state: State of another run's optimizer to begin with, by parameter name.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        experiment: Experiment | Budget,
        run: Path,
        train_dataset: Any,
        evaluate_recipe: Evaluate,
        workers: int = 0,
        device: str = "auto",
        optimizer_state: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.recipe, self.experiment, self.run, self.evaluate_recipe = (
            recipe,
            experiment,
            run,
            evaluate_recipe,
        )
        self.signals = Signals()
        self._inherited = optimizer_state
        self._evaluated_at = -1
        self._blank: Recipe | None = None
        self.guard = Guard(recipe, run=run, seed=experiment.seed)
        self._parts = LossParts(lambda: self.guard.dropped)
        self._metrics = Metrics(run)
        # Every process sees a different batch, so a run on W processes consumes W times the samples of each step.
        arguments = TrainingArguments(
            output_dir=str(run),
            max_steps=experiment.steps,
            per_device_train_batch_size=experiment.batch_size,
            gradient_accumulation_steps=experiment.accumulate,
            max_grad_norm=experiment.max_grad_norm,
            bf16=experiment.precision == "bf16",
            use_cpu=device == "cpu" or not torch.cuda.is_available(),
            seed=experiment.seed,
            logging_steps=min(50, experiment.eval_every),
            eval_strategy="steps",
            eval_steps=experiment.eval_every,
            save_strategy="steps",
            save_steps=experiment.save_every,
            remove_unused_columns=False,
            dataloader_num_workers=workers,
            dataloader_pin_memory=torch.cuda.is_available() and device != "cpu",
            logging_nan_inf_filter=False,
            ddp_broadcast_buffers=False,
            report_to="none",
        )
        super().__init__(
            recipe,
            arguments,
            data_collator=default_collate,
            train_dataset=train_dataset,
            eval_dataset=train_dataset,
            callbacks=[
                RecipeHooks(recipe, seed=experiment.seed, stop_asked=self.signals.agreed),
                self.guard,
                self._parts,
                self._metrics,
            ],
        )
        self.remove_callback(ProgressCallback)
        self.add_callback(Progress)

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Trains as `Trainer.train` does, and closes the log however that ends.

        Raises:
            IntegrityError: `HZ-F45`, three steps in a row were dropped, or all steps of the run.
        """
        try:
            result = super().train(*arguments, **options)
        finally:
            self._metrics.close()
        if self.state.global_step >= self.experiment.steps:
            self.guard.require_a_step(self.state.global_step)
        return result

    # -- several processes ---------------------------------------------------------------------------------------------------------------

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        if self.experiment.shard and parts.world() > 1:
            self._blank = sharding.shard(self.recipe, device)
        else:
            super()._move_model_to_device(model, device)

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: Any = None) -> nn.Module:
        """A sharded recipe gets autocast only: it averages its gradients itself."""
        if self._blank is not None and not getattr(model, "_is_accelerate_prepared", False):
            model = self.accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
            model.__dict__["_is_accelerate_prepared"] = True
        return super()._wrap_model(model, training, dataloader)

    # -- data, optimizer, loss ---------------------------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        dataset: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(dataset)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Builds the optimizer over the recipe's parameter groups."""
        if self.optimizer is None:
            groups, e = self.recipe.param_groups(), self.experiment
            self.optimizer = optimizer_of(e.optimizer, groups, lr=e.lr, momentum=e.momentum)
            if self._inherited:
                continuing.take_optimizer(self.optimizer, self.recipe, self._inherited)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Builds the schedule from the recipe's `lr_factor`."""
        if self.lr_scheduler is None:
            optimizer = optimizer or self.optimizer
            recipe = self.recipe

            def factor_of(group: int) -> Callable[[int], float]:
                return lambda step: float(recipe.lr_factor(group, step))

            factors = [factor_of(g) for g in range(len(optimizer.param_groups))]
            self.lr_scheduler = LambdaLR(getattr(optimizer, "optimizer", optimizer), factors)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Any:
        """Returns the recipe's loss, keeping its other scalars for the log."""
        outputs = model(inputs)
        self._terms = {k: v.detach() for k, v in outputs.items()}
        return outputs["loss"]

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *rest: Any) -> Tensor:
        """Forward and backward; a number that is none, in any batch of the step, undoes the whole step.

        What is returned is summed by the Trainer and becomes the logged loss, so a dropped step takes back what its earlier batches gave.
        """
        if self.guard.dropped:  # an earlier batch of this step
            return torch.zeros((), device=self.args.device)
        loss = super().training_step(model, inputs, *rest)
        if self.guard.refuses(self._terms, inputs, step=self.state.global_step):
            return -self._parts.given(loss)
        self._parts.add(self._terms, loss)
        return loss

    # -- validation and checkpoints ------------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the parts of the loss to the Trainer's own records."""
        super().log(self._parts.completed(logs) if "loss" in logs else logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Returns and logs validation metrics of the recipe on its own tasks.

        Raises:
            IntegrityError: `HZ-F49`, the metrics say that the features have collapsed; see `histozoo.health`.
        """
        if self._evaluated_at == self.state.global_step:  # the Trainer asks twice at the last step
            return {}
        self._evaluated_at = self.state.global_step
        with sharding.whole(self.recipe, self._blank) as recipe:
            training = recipe.training
            recipe.eval()
            metrics = self.evaluate_recipe(recipe)
            recipe.train(training)
        self.log(metrics)
        if health.collapsed(metrics):
            history = self.state.log_history
            good = checkpoints.newest_until(self.run, health.last_good(history))
            health.refuse_collapse(history, warm_up=self._warm_up(), kept=good)
        return metrics

    def _warm_up(self) -> int:
        """Returns the step at which the last parameter group has reached its highest learning rate."""
        groups, steps = range(len(self.create_optimizer().param_groups)), range(self.experiment.steps)

        def highest(group: int) -> int:
            return max(steps, key=lambda step: self.recipe.lr_factor(group, step))

        return max(map(highest, groups))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        weights = sharding.for_file(self.recipe.state_dict())
        moments = sharding.for_file(self.create_optimizer().state_dict())
        if self.is_world_process_zero():
            self.guard.require_finite(weights)
            good = health.last_good(self.state.log_history)
            fill = functools.partial(self._fill_checkpoint, weights=weights, moments=moments)
            checkpoints.save(self.run, self.state.global_step, fill, good=good)
        if dist.is_initialized():
            dist.barrier()

    def _fill_checkpoint(self, folder: Path, *, weights: dict[str, Tensor], moments: dict[str, Any]) -> None:
        artifact.save_canonical(contiguous(weights), folder / "model.safetensors", {"format": "pt"})
        states = {
            "optimizer.pt": moments,
            "scheduler.pt": self.lr_scheduler.state_dict() if self.lr_scheduler is not None else {},
        }
        for name, state in states.items():
            buffer = io.BytesIO()
            torch.save(state, buffer)
            durable.write_bytes(folder / name, buffer.getbuffer())
        durable.write_text(
            folder / "trainer_state.json", json.dumps(dataclasses.asdict(self.state), indent=2)
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        weights = load_file(Path(resume_from_checkpoint) / "model.safetensors")
        self.recipe.load_state_dict(sharding.weights_like(weights, self.recipe), strict=True)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        names = ("optimizer.pt", "scheduler.pt")
        moments, schedule = (
            torch.load(Path(checkpoint) / n, map_location="cpu", weights_only=True) for n in names
        )
        optimizer = self.create_optimizer()
        optimizer.load_state_dict(sharding.moments_like(moments, optimizer))
        self.create_scheduler(self.experiment.steps).load_state_dict(schedule)
