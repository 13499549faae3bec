"""Case 45 for every recipe: a number that is none, wherever it appears, leaves the run as if its batch had not been there.

Each recipe is trained once with a poisoned batch for each of its sites, clean ones between, and once without those batches: all weights,
teachers, centres, queues, batch statistics and moments must be the same bits, and dropped.jsonl must name what was wrong.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from histozoo import checkpoints
from histozoo.engine import Budget, Engine
from histozoo.errors import IntegrityError
from histozoo.guard import dropped_steps
from histozoo.recipes.base import Recipe
from tests.fakes.ssl import MADE, NormedTrunk, batch, make, tiny_vit

EVERY = [*MADE, "multitask", "multitaskssl"]
ROWS = 4
NAN, INF = float("nan"), float("inf")
Record = dict[str, Any]
State = dict[str, Tensor]


def build(name: str) -> Recipe:
    torch.manual_seed(3)
    return make(name, trunk=tiny_vit() if name.startswith(("ibot", "mae")) else NormedTrunk())


class Samples(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Samples in training order; in the steps named one sample's uniform numbers are none."""

    def __init__(self, recipe: Any, steps: int, poisoned: tuple[int, ...] = ()) -> None:
        self.whole, self.samples = batch(recipe, ROWS * steps), ROWS * steps
        for step in poisoned:
            self.whole["u"][ROWS * step + 1] = NAN

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {**{k: v[index] for k, v in self.whole.items()}, "index": torch.tensor(index)}


def engine(
    recipe: Recipe,
    run: Path,
    *,
    steps: int,
    poisoned: tuple[int, ...] = (),
    kind: type[Engine] = Engine,
    **budget: Any,
) -> Engine:
    torch.set_num_threads(1)
    run.mkdir(exist_ok=True)
    values = {"batch_size": ROWS, "seed": 0, "lr": 0.01, "eval_every": steps, "save_every": steps, **budget}
    samples = steps * values.get("accumulate", 1)
    return kind(
        recipe,
        experiment=Budget(steps=steps, **values),
        run=run,
        train_dataset=Samples(recipe, samples, poisoned),
        evaluate_recipe=lambda _: {},
        device="cpu",
    )


def state(subject: Engine) -> State:
    """Everything that the next step starts from."""
    found = {k: v.clone() for k, v in subject.recipe.state_dict().items()}
    for number, values in subject.optimizer.state_dict()["state"].items():  # type: ignore[union-attr]
        found |= {f"optimizer.{number}.{k}": torch.as_tensor(v).clone() for k, v in values.items()}
    return found


def changed(before: State, after: State) -> list[str]:
    assert before.keys() == after.keys()
    return [k for k in before if not torch.equal(before[k], after[k])]


def records(run: Path) -> list[Record]:
    return [json.loads(line) for line in (run / "dropped.jsonl").read_text().splitlines()]


# -- sites -----------------------------------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """Where a number goes wrong, and what the record must say.

    Args:
        name: As in the table of sites below.
        poison: Puts it there for one step.
        kinds: `not_finite` of the record: all of it, or with `among` one of it.
        where: The names it gives for the last kind.
    """

    name: str
    poison: Callable[[], Any]
    kinds: list[str]
    among: bool = False
    where: list[str] | None = None


@contextmanager
def term(recipe: Recipe, key: str) -> Iterator[None]:
    """The recipe returns a number that is none under this key; the others are as they are."""
    forward = recipe.forward
    recipe.forward = lambda b: {k: v * INF if k == key else v for k, v in forward(b).items()}  # type: ignore[method-assign]
    yield
    del recipe.forward  # type: ignore[method-assign]


@contextmanager
def hooked(handle: Any) -> Iterator[None]:
    yield
    handle.remove()


def gradient(p: nn.Parameter, value: float) -> Any:
    return hooked(p.register_hook(lambda g: torch.full_like(g, value)))


def output(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Any:
    return hooked(module.register_forward_hook(lambda _m, _i, out: change(out)))


def written(module: nn.Module, buffer: Tensor, value: float) -> Any:
    """The forward pass of `module` writes a number that is none into a buffer, and goes on with finite ones."""

    def write(_module: nn.Module, _inputs: Any, _out: Any) -> None:
        with torch.no_grad():
            buffer.data.flatten()[-1].fill_(value)  # a view, past the version counter of autograd

    return hooked(module.register_forward_hook(write))


def sites(recipe: Recipe) -> list[Site]:
    """Every site that a recipe has; `TABLE` says how many that must be."""
    found = [Site("input", ExitStack, ["input", "loss"], among=True)]
    with torch.random.fork_rng():  # a twin is asked, since a forward pass moves batch statistics and centres
        keys = list(copy.deepcopy(recipe)(batch(recipe, ROWS)))
    found += [
        Site(f"term {k}", lambda k=k: term(recipe, k), ["loss", "gradient"] if k == "loss" else [k])
        for k in keys
    ]
    names = {id(p): n for n, p in recipe.named_parameters() if p.requires_grad}
    for which, p in (("first", first(recipe)), ("last", last(recipe))):
        for kind, value in (("nan", NAN), ("square", 1e25)):
            poison = lambda p=p, value=value: gradient(p, value)  # noqa: E731
            found.append(Site(f"gradient {which} {kind}", poison, ["gradient"], where=[names[id(p)]]))
    for n, module in recipe.named_modules():
        if isinstance(module, nn.BatchNorm1d):
            for k, value in (("running_mean", NAN), ("running_var", INF)):
                poison = lambda m=module, k=k, v=value: written(m, getattr(m, k), v)  # noqa: E731
                found.append(Site(f"statistic {n}", poison, ["buffer"], where=[f"{n}.{k}"]))
    for n, buffer in recipe.named_buffers(recurse=True):
        if buffer.is_floating_point() and "running" not in n:
            poison = lambda b=buffer: written(recipe, b, NAN)  # noqa: E731
            # The gradient reads the queue of moco, too.
            found.append(Site(f"buffer {n}", poison, ["buffer"], among=True, where=[n]))
    for n, module in recipe.named_children():
        if n.startswith("teacher_"):
            inner = next(iter(module.values())) if isinstance(module, nn.ModuleDict) else module
            hook = lambda m=inner: output(m, lambda out: out * NAN)  # noqa: E731
            if n == "teacher_backbone" and isinstance(inner, type(tiny_vit())):  # ibot goes past its forward
                hook = lambda m=inner.norm: output(m, lambda out: out * NAN)  # noqa: E731
            found.append(Site(f"teacher {n}", hook, ["loss", "teacher_mean", "key_norm"], among=True))
    return found


def first(recipe: Recipe) -> nn.Parameter:
    return next(p for p in recipe.parameters() if p.requires_grad)


def last(recipe: Recipe) -> nn.Parameter:
    """The last matrix that takes part in every step."""
    return [
        p for n, p in recipe.named_parameters() if p.requires_grad and p.ndim == 2 and "heads.two" not in n
    ][-1]


TABLE = {
    # name: loss terms, batch norms, other buffers, networks of the teacher
    "simclr": (1, 3, 0, 0),
    "barlow": (3, 3, 0, 0),
    "vicreg": (4, 3, 0, 0),
    "byol": (1, 5, 0, 2),
    "moco": (2, 10, 0, 2),
    "moco_queue": (2, 2, 1, 2),
    "dino": (2, 2, 1, 2),
    "swav": (1, 2, 0, 0),
    "swav_queue": (1, 2, 1, 0),
    "ibot": (5, 0, 0, 2),
    "ibot_ema": (5, 0, 2, 2),
    "mae": (1, 0, 1, 0),
    "multitask": (3, 1, 0, 0),
    "multitaskssl": (5, 3, 0, 0),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_site_of_every_recipe_is_known(name: str) -> None:
    found = [s.name.split()[0] for s in sites(build(name))]
    terms, norms, buffers, teachers = TABLE[name]
    expected = {"term": terms, "statistic": 2 * norms, "buffer": buffers, "teacher": teachers}
    assert {k: found.count(k) for k in expected} == expected
    assert found.count("input") == 1 and found.count("gradient") == 4


class Poison(TrainerCallback):
    """Poisons every second step, a site each, and keeps the state before and after."""

    def __init__(self, subject: Engine, found: list[Site]) -> None:
        self.subject, self.sites, self.stack = subject, found, ExitStack()
        self.states: dict[int, State] = {}

    def on_step_begin(self, args: Any, s: Any, control: Any, **_: Any) -> None:
        self.states[s.global_step] = state(self.subject)
        if s.global_step % 2:
            self.stack.enter_context(self.sites[s.global_step // 2].poison())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.stack.close()


class Without(Engine):
    """Trains without the batches of every second step."""

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *rest: Any) -> Tensor:
        if self.state.global_step % 2:
            return torch.zeros(())
        return super().training_step(model, inputs, *rest)


@pytest.mark.parametrize("name", EVERY)
def test_f45_a_number_that_is_none_leaves_the_run_as_one_without_that_batch(
    name: str, tmp_path: Path
) -> None:
    recipe = build(name)
    found = sites(recipe)
    steps = 2 * len(found) + 1
    subject = engine(recipe, tmp_path / "poisoned", steps=steps, poisoned=(1,))
    watch = Poison(subject, found)
    subject.add_callback(watch)
    subject.train()
    seen = records(tmp_path / "poisoned")
    assert [r["step"] for r in seen] == list(range(1, steps, 2))
    for site, record in zip(found, seen, strict=True):
        step = record["step"]
        assert changed(watch.states[step], watch.states[step + 1]) == [], site.name
        assert record["samples"] == list(range(ROWS * step, ROWS * (step + 1))) and record["seed"] == 0
        kinds = record["not_finite"]
        assert set(site.kinds) & set(kinds) if site.among else kinds == site.kinds, (site.name, record)
        if site.where is not None:
            assert record["where"][site.kinds[-1]] == site.where, (site.name, record)
    assert seen[0]["where"]["input"] == [f"u of sample {ROWS + 1}"]

    twin = engine(build(name), tmp_path / "without", steps=steps, kind=Without)
    twin.train()
    assert changed(state(twin), state(subject)) == []
    assert len(changed(watch.states[2], state(subject))) > 5  # clean steps did learn
    assert not (tmp_path / "without" / "dropped.jsonl").exists()


# -- what follows a step -----------------------------------------------------------------------------------------------------------------


class Break(TrainerCallback):
    """What the recipe does after step `at` leaves a number that is none in its state."""

    def __init__(self, recipe: Recipe, key: str, at: int) -> None:
        self.recipe, self.key, self.at = recipe, key, at

    def on_optimizer_step(self, args: Any, s: Any, control: Any, **_: Any) -> None:
        if s.global_step == self.at:
            self.recipe.state_dict()[self.key].flatten()[0].fill_(NAN)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("byol", "teacher_projector.0.weight"),
        ("dino", "centre"),
        ("ibot_ema", "token_centre"),
        ("moco_queue", "queue"),
        ("swav_queue", "queue_GQD"),
    ],
)
def test_f45_a_teacher_centre_or_queue_that_broke_after_a_step_is_never_saved(
    name: str, key: str, tmp_path: Path
) -> None:
    recipe = build(name)
    subject = engine(recipe, tmp_path, steps=8, save_every=2)
    subject.add_callback(Break(recipe, key, at=5))
    with pytest.raises(IntegrityError, match="HZ-F45 the state to be saved is not finite") as caught:
        subject.train()
    assert caught.value.where == key
    newest = checkpoints.newest_valid(tmp_path)
    assert newest == tmp_path / "checkpoint-4" and not (tmp_path / "checkpoint-6").exists()


def test_a_buffer_that_is_infinite_by_design_is_no_fault(tmp_path: Path) -> None:
    recipe = build("barlow")
    recipe.register_buffer("mask", torch.tensor([0.0, -INF]))
    recipe.register_buffer("passing", torch.tensor([-INF]), persistent=False)
    engine(recipe, tmp_path, steps=2).train()
    assert not (tmp_path / "dropped.jsonl").exists() and (tmp_path / "checkpoint-2").is_dir()


def test_of_many_names_the_first_are_given(tmp_path: Path) -> None:
    subject = engine(build("barlow"), tmp_path, steps=3, poisoned=(1,))
    subject.train()
    (record,) = records(tmp_path)
    assert record["not_finite"] == [
        "loss",
        "loss_invariance",
        "loss_redundancy",
        "input",
        "gradient",
        "buffer",
    ]
    assert record["where"]["gradient"][0] == "backbone.stem.weight"
    assert {len(record["where"][k]) for k in ("gradient", "buffer")} == {5}


# -- accumulation, rows of dropped steps, resuming ---------------------------------------------------------------------------------------


def test_f45_with_accumulation_one_bad_batch_undoes_the_whole_step(tmp_path: Path) -> None:
    """Three batches a step; the second of step 2 is poisoned: the first leaves nothing behind and the third is not looked at."""
    recipe = build("moco")
    subject = engine(recipe, tmp_path, steps=4, poisoned=(7,), accumulate=3, eval_every=2)
    watch = Poison(subject, [])
    watch.on_step_begin = lambda args, s, control, **_: watch.states.update({s.global_step: state(subject)})  # type: ignore[method-assign]
    subject.add_callback(watch)
    forwards, forward = [], recipe.forward
    recipe.forward = lambda b: (forwards.append((b["index"][0].item(), forward(b))), forwards[-1][1])[1]  # type: ignore[method-assign]
    subject.train()
    (record,) = records(tmp_path)
    assert record["step"] == 2 and record["samples"] == list(range(28, 32))
    assert changed(watch.states[2], watch.states[3]) == [] and changed(watch.states[3], state(subject)) != []
    assert [i // ROWS for i, _ in forwards] == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11]
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = next(r for r in log if r["step"] == 4 and "key_norm" in r)
    good = [float(out["loss"].detach()) for i, out in forwards if i >= 9 * ROWS]
    assert last["dropped_steps"] == 1 and last["loss"] == pytest.approx(sum(good) / 3, rel=1e-5)


def test_where_every_step_was_dropped_there_is_no_loss_to_log(tmp_path: Path) -> None:
    engine(build("barlow"), tmp_path, steps=4, poisoned=(2, 3), eval_every=2).train()
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "loss" in next(r for r in log if r["step"] == 2)
    last = next(r for r in log if r.get("dropped_steps"))
    assert last["step"] == 4 and last["dropped_steps"] == 2 and "loss" not in last


def test_f45_f40_the_row_of_dropped_steps_goes_on_after_a_kill(tmp_path: Path) -> None:
    """Dropped at steps 2 and 3, saved, killed: step 4 is the third in a row, as it would have been."""
    first_life = engine(build("byol"), tmp_path, steps=6, poisoned=(0, 2, 3), save_every=2)
    first_life.add_callback(StopAt(4))
    first_life.train()
    assert [r["step"] for r in records(tmp_path)] == [0, 2, 3]
    for _ in range(2):  # a step that is repeated is listed once
        again = engine(build("byol"), tmp_path, steps=6, poisoned=(0, 2, 3, 4), save_every=2)
        with pytest.raises(IntegrityError, match="HZ-F45 3 steps in a row") as caught:
            again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
        assert [r["step"] for r in records(tmp_path)] == [0, 2, 3, 4]
    assert "step 4, samples in" in caught.value.where and "u of sample 17" in caught.value.got
    back = engine(
        build("byol"), tmp_path, steps=6, save_every=2
    )  # the batches are mended, and it goes back further
    back.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert [r["step"] for r in records(tmp_path)] == [0]


class StopAt(TrainerCallback):
    def __init__(self, at: int) -> None:
        self.at = at

    def on_step_end(self, args: Any, s: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = s.global_step == self.at


# -- nothing left ------------------------------------------------------------------------------------------------------------------------


def test_f45_a_run_of_which_every_step_was_dropped_ends_with_an_error_and_again_when_continued(
    tmp_path: Path,
) -> None:
    with pytest.raises(IntegrityError, match="HZ-F45 every step of the run was dropped") as caught:
        engine(build("byol"), tmp_path, steps=2, poisoned=(0, 1), save_every=1).train()
    assert caught.value.got == "2 of 2 steps dropped" and caught.value.next_step and caught.value.kept
    again = engine(build("byol"), tmp_path, steps=2, poisoned=(0, 1), save_every=1)
    with pytest.raises(IntegrityError, match="HZ-F45 every step"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert dropped_steps(tmp_path) == 2


def test_a_run_of_which_one_step_is_left_ends_well(tmp_path: Path) -> None:
    subject = engine(build("byol"), tmp_path, steps=2, poisoned=(0,))
    before = {k: v.clone() for k, v in subject.recipe.state_dict().items()}
    subject.train()
    assert dropped_steps(tmp_path) == 1
    assert any(not torch.equal(v, before[k]) for k, v in subject.recipe.state_dict().items())


def test_f45_a_run_that_was_stopped_by_a_signal_is_not_called_empty(tmp_path: Path) -> None:
    subject = engine(build("byol"), tmp_path, steps=4, poisoned=(0,), save_every=4)
    subject.add_callback(StopAt(1))
    subject.train()
    assert dropped_steps(tmp_path) == subject.state.global_step == 1
