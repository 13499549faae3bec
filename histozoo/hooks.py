"""What the engine hangs on the Trainer's loop: signals, the recipe's hooks, the log and the progress bar."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from histozoo import durable
from histozoo.recipes import Recipe

SHOWN = ("loss", "grad_norm", "val_balanced_accuracy", "knn_balanced_accuracy", "rank_me")
"""What stands beside the progress bar."""

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Signals:
    """Turns SIGTERM, SIGUSR1 and the first Ctrl-C into a request to stop; the second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.received: str | None = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received == "SIGINT" and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catches the signals inside the block and restores what was there before."""
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        before = {n: signal.signal(n, self._note) for n in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def agreed(self) -> bool:
        """Returns whether any process was asked to stop."""
        if not dist.is_initialized():
            return self.received is not None
        flag = torch.tensor(int(self.received is not None))
        flag = flag.cuda() if dist.get_backend() == "nccl" else flag
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)


class RecipeHooks(TrainerCallback):
    """Calls the recipe's hooks, makes every random number a function of the seed and the step, and stops when asked.

    Args:
        recipe: What is trained.
        seed: The run's seed.
        stop_asked: Returns whether a signal asked to stop; the step is finished and saved first.
    """

    def __init__(self, recipe: Recipe, *, seed: int, stop_asked: Callable[[], bool]) -> None:
        self.recipe, self.seed, self.stop_asked = recipe, seed, stop_asked

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Seeds torch for this step, tells the recipe, and sets the weight decay where the recipe has a schedule for it."""
        torch.manual_seed((self.seed << 32) + (state.global_step << 8) + args.process_index)
        self.recipe.on_step(state.global_step)
        for number, group in enumerate(optimizer.param_groups if optimizer is not None else ()):
            decay = self.recipe.weight_decay_at(number, state.global_step)
            if decay is not None:
                group["weight_decay"] = decay

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Gradients are complete."""
        self.recipe.before_step()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """The optimizer has stepped."""
        self.recipe.after_step()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Asks for a last checkpoint when a signal came."""
        if self.stop_asked():
            control.should_save = control.should_training_stop = True


class LossParts(TrainerCallback):
    """Means of what the recipe returns beside the loss, over the steps since the last record; dropped steps do not count.

    They are those of this process; the loss itself is the mean over all.

    Args:
        dropped: Returns whether the step that ends was dropped.
    """

    def __init__(self, dropped: Callable[[], bool]) -> None:
        self._dropped = dropped
        self._forget()

    def _forget(self) -> None:
        self._step: list[tuple[Mapping[str, Tensor], Tensor]] = []
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._steps = self._good = 0

    def add(self, terms: Mapping[str, Tensor], loss: Tensor) -> None:
        """Takes the scalars of one batch, and the loss that the Trainer was given for it."""
        self._step.append((terms, loss))

    def given(self, like: Tensor) -> Tensor:
        """Returns the sum of what the Trainer was given in this step, of the type and on the device of `like`."""
        return sum((loss for _, loss in self._step), start=torch.zeros_like(like))

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Begins a step."""
        self._step = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Counts the step's batches, or none of them."""
        self._steps += 1
        if self._dropped():
            return
        self._good += 1
        for terms, _loss in self._step:
            for key, value in terms.items():
                before, count = self._sums.get(key, (torch.zeros_like(value), 0))
                self._sums[key] = (before + value, count + 1)

    def completed(self, logs: dict[str, float]) -> dict[str, float]:
        """Returns a record of the Trainer with the parts of the loss, and the loss as the mean of the steps that were not dropped.

        The Trainer divides by all steps, and a dropped one adds nothing. `dropped_steps` stands there where there were some.
        """
        means = {k: float(total / count) for k, (total, count) in self._sums.items() if k != "loss"}
        found = {**logs, **means}
        if dropped := self._steps - self._good:
            found["dropped_steps"] = dropped
            loss = found.pop("loss")
            found |= {"loss": loss * self._steps / self._good} if self._good else {}
        self._forget()
        return found


class Metrics(TrainerCallback):
    """Writes metrics.jsonl and TensorBoard events; a resumed run first drops the lines it is about to repeat."""

    def __init__(self, run: Path) -> None:
        self.path, self.run = run / "metrics.jsonl", run
        self.writer: SummaryWriter | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Opens the log at the step the run starts from."""
        if not state.is_world_process_zero:
            return
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= state.global_step]
        durable.write_text(self.path, "".join(line + "\n" for line in kept))
        self.writer = _summary_writer(self.run / "tensorboard", state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        """Writes one record."""
        if not state.is_world_process_zero or not logs:
            return
        durable.append_line(self.path, json.dumps({"step": state.global_step, **logs}))
        for key, value in logs.items():
            if self.writer is not None and isinstance(value, int | float):
                self.writer.add_scalar(key, value, state.global_step)

    def close(self) -> None:
        """Closes the log, with its thread; `on_train_end` would not hear of training that ended by an error."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def _summary_writer(folder: Path, step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step)


class Progress(ProgressCallback):
    """The Trainer's progress bar with the loss beside it instead of a dictionary above it."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        """Shows the latest numbers beside the bar."""
        bar: Any = self.training_bar  # None on every process but the first
        if bar is not None and logs:
            shown = {k: f"{v:.3g}" for k, v in logs.items() if k in SHOWN}
            bar.set_postfix(shown)
