"""A recipe split over two processes (FSDP, gloo): the same weights, files that go on with or without it, a part of the memory each."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from histozoo import checkpoints, experiment, pretrain, sharding
from histozoo.errors import IntegrityError, UsageError
from histozoo.tasks import TASKS
from tests.fakes.ssl import Trunk, make
from tests.fakes.tasks import DRAWN, write_drawn

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, os, sys
from pathlib import Path
import timm
import torch
import torch.distributed as dist
from torch.utils.data import Subset
from transformers import TrainerCallback
from histozoo import pretrain, run_folder
from histozoo.data.views import Views
from histozoo.engine import Budget, Engine
from histozoo.recipes import multitask
from histozoo.tasks import TASKS
from tests.fakes.ssl import batch, make, tiny_vit
from tests.fakes.tasks import DRAWN

torch.set_num_threads(1)
place, ROWS, STEPS = Path(sys.argv[1]), 4, 4
rank = int(os.environ["RANK"])


class Tiles(torch.utils.data.Dataset):
    def __init__(self, recipe, poisoned):
        self.whole = batch(recipe, 4 * ROWS * STEPS)
        if poisoned is not None:
            self.whole["u"][poisoned] = float("nan")

    def __len__(self):
        return 4 * ROWS * STEPS

    def __getitem__(self, index):
        return {k: v[index] for k, v in self.whole.items()}


def built(name):
    torch.manual_seed(3)
    resnet = timm.create_model("test_resnet", num_classes=0)
    if name != "multitask":
        recipe = make(name, trunk=resnet if name == "simclr" else tiny_vit())
    else:
        flat = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        values = {**multitask.PRESETS["modern"], "steps": STEPS, "warmup_steps": 0, "head_warmup_steps": 2}
        recipe = multitask.Multitask(resnet, {"one": 2, "two": 3}, views=Views(px=32, **flat), settings=values)
    recipe.lr = 1e-3
    return recipe.to(memory_format=torch.channels_last)


def look(recipe):
    # What Health does: only the first process looks, with the trunk alone.
    if rank:
        return {}
    with torch.inference_mode():
        return {"seen": float(recipe.backbone(torch.ones(2, 3, 32, 32)).norm())}


class Keep(TrainerCallback):
    def __init__(self, recipe):
        self.recipe, self.states = recipe, []

    def on_step_begin(self, *_, **__):
        local = {k: getattr(v, "_local_tensor", v).clone() for k, v in self.recipe.state_dict().items()}
        self.states.append(local)


def train(name, folder, *, shard, resume=None, poisoned=None, **options):
    recipe, run = built(name), place / name / folder
    run.mkdir(parents=True, exist_ok=True)
    options = {"max_grad_norm": 0.5, "eval_every": 2, "save_every": 2, **options}
    budget = Budget(steps=STEPS, batch_size=ROWS, seed=0, lr=1e-3, shard=shard, **options)
    engine = Engine(recipe, experiment=budget, run=run, train_dataset=Tiles(recipe, poisoned), evaluate_recipe=look, device="cpu")
    keep = Keep(recipe)
    engine.add_callback(keep)
    engine.train(resume_from_checkpoint=resume and str(place / name / resume))
    run_folder.finish(run, recipe, engine.optimizer)
    dist.barrier()
    return engine, keep.states


def held(tensors):
    return sum(getattr(t, "_local_tensor", t).untyped_storage().nbytes() for t in tensors)


def memory(engine):
    moments = [v for s in engine.optimizer.state.values() for v in s.values() if torch.is_tensor(v) and v.ndim]
    return [held(engine.recipe.parameters()), held(moments)]


told = {}
OPTIONS = {"simclr": {"optimizer": "lars"}, "dino": {"precision": "bf16"}, "multitask": {"optimizer": "sgd", "accumulate": 2}}
for name, options in OPTIONS.items():
    plain, _ = train(name, "plain", shard=False, **options)
    split, _ = train(name, "split", shard=True, **options)
    told[name] = {"plain": memory(plain), "split": memory(split)}
    told[name]["blocks"] = [k for k, m in split.recipe.named_modules() if type(m).__name__.startswith("FSDP")]
    told[name]["log"] = [r["seen"] for e in (plain, split) for r in e.state.log_history if "seen" in r]

again, _ = train("dino", "again", shard=True, resume="split/checkpoint-2", **OPTIONS["dino"])
told["dino"]["again"] = memory(again)
train("dino", "alone", shard=False, resume="split/checkpoint-2", **OPTIONS["dino"])

poisoned = ROWS * 2 + ROWS + 1  # a sample of the second process in the second step
engine, states = train("dino", "sick", shard=True, poisoned=poisoned, **OPTIONS["dino"])
told["undone"] = [k for k in states[1] if not torch.equal(states[1][k], states[2][k])]
told["moved"] = len([k for k in states[2] if not torch.equal(states[2][k], states[3][k])])

TASKS.update(DRAWN)
for runs, shard in (("whole", False), ("parts", True)):
    places = {"data_root": place / "data", "runs": place / runs, "device": "cpu"}
    changes = {"steps": 4, "eval_every": 2, "optimizer": "sgd", "precision": "fp32", "shard": shard}
    pretrain.run(place / "test_resnet.multitask_drawn.toml", **places, **changes)
    dist.barrier()
(place / f"told{rank}.json").write_text(json.dumps(told))
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # threads of a group may still end: "terminate called without an active exception", once in a while
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes trained everything that is looked at here; made once, also where tests run side by side."""
    shared = tmp_path_factory.getbasetemp()
    place = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "two"
    place.mkdir(exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "told1.json").exists():
            _train(place)
    return place


def _train(place: Path) -> None:
    write_drawn(place, register=False)
    (place / "script.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(place / "script.py"), str(place)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def final(run: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(run / "final" / f"{name}.safetensors")


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[k].double() - b[k].double()).abs().max().item() for k in a)


def told(place: Path, process: int = 0) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((place / f"told{process}.json").read_text())
    return facts


@pytest.mark.parametrize("name", ["simclr", "dino", "multitask"])
def test_a_sharded_run_ends_with_the_weights_of_one_that_is_not(trained: Path, name: str) -> None:
    plain, split = trained / name / "plain", trained / name / "split"
    for what in ("model", "optimizer"):
        assert furthest(final(plain, what), final(split, what)) < 1e-5
    log = told(trained)[name]["log"]
    assert len(log) == 4 and log[:2] == pytest.approx(log[2:], rel=1e-5) and log[0] != log[1]


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize("name", ["simclr", "dino"])
def test_each_process_holds_half_of_weights_teachers_and_moments(
    trained: Path, name: str, process: int
) -> None:
    facts = told(trained, process)[name]
    for kind in ("split", "again") if name == "dino" else ("split",):
        for whole, part in zip(facts["plain"], facts[kind], strict=True):
            assert 0.45 * whole < part < 0.55 * whole
    if name == "dino":
        trunks = ("backbone", "teacher_backbone")
        assert facts["blocks"] == ["", *(f"{t}.blocks.{n}" for t in trunks for n in (0, 1))]


def test_f40_a_sharded_run_continues_to_the_same_bits(trained: Path) -> None:
    for what in ("model", "optimizer"):
        assert furthest(final(trained / "dino" / "split", what), final(trained / "dino" / "again", what)) == 0


def test_a_sharded_checkpoint_is_a_checkpoint_like_any_other(trained: Path) -> None:
    plain, split = (trained / "dino" / kind / "checkpoint-2" for kind in ("plain", "split"))
    assert (
        not checkpoints.damage(split)
        and checkpoints.manifest(plain).keys() == checkpoints.manifest(split).keys()
    )
    a, b = (torch.load(c / "optimizer.pt", weights_only=True) for c in (plain, split))
    assert a["param_groups"] == b["param_groups"] and a["state"].keys() == b["state"].keys()
    assert [type(v) for s in b["state"].values() for v in s.values()] == [torch.Tensor] * 3 * len(b["state"])
    assert furthest(final(trained / "dino" / "split"), final(trained / "dino" / "alone")) < 1e-5


def test_f45_a_poisoned_batch_is_undone_in_every_part(trained: Path) -> None:
    for process in (0, 1):
        facts = told(trained, process)
        assert facts["undone"] == [] and facts["moved"] > 10
    lines = (trained / "dino" / "sick" / "dropped.jsonl").read_text().splitlines()
    records = {r["process"]: r for r in map(json.loads, lines)}
    assert {r["step"] for r in records.values()} == {1} and set(records) == {0, 1}
    assert "loss" in records[1]["not_finite"] and "gradient" in records[0]["where"]


def test_the_verb_shards_where_the_experiment_says_so(trained: Path) -> None:
    name = "test_resnet.multitask_drawn"
    whole, parts = trained / "whole" / name, trained / "parts" / name
    assert furthest(final(whole), final(parts)) < 1e-5
    assert json.loads((parts / "experiment.json").read_text())["shard"] is True
    assert "shard" not in json.loads((whole / "experiment.json").read_text())
    logs = [map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) for run in (whole, parts)]
    scores = [[r["val_drawn_nuclei"] for r in log if "val_drawn_nuclei" in r] for log in logs]
    assert len(scores[0]) == 2 and scores[0] == scores[1]


# -- one process -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[Path]:
    torch.set_num_threads(1)
    yield write_drawn(tmp_path)
    for name in DRAWN:
        TASKS.pop(name)


def run(drawn: Path, runs: str, **changes: Any) -> Path:
    places = {"data_root": drawn.parent / "data", "runs": drawn.parent / runs}
    return pretrain.run(drawn, device="cpu", **places, **changes)


def test_one_process_has_nobody_to_share_with(drawn: Path) -> None:
    digests = [
        hashlib.sha256((run(drawn, runs, **changes) / "final/model.safetensors").read_bytes()).hexdigest()
        for runs, changes in (("a", {}), ("b", {"shard": True}))
    ]
    assert digests[0] == digests[1]


def test_a_run_that_says_nothing_of_sharding_is_what_it_was(drawn: Path) -> None:
    folder = run(drawn, "a", steps=1)
    assert "shard" not in experiment.read(drawn).settings()
    assert run(drawn, "a", steps=1) == folder
    with pytest.raises(IntegrityError, match="HZ-F44") as caught:
        run(drawn, "a", steps=1, shard=True)
    assert "experiment.json.shard: None -> True" in caught.value.got
    with pytest.raises(UsageError, match="HZ-U43"):
        experiment.read(drawn, shard="yes")


def test_a_parameter_without_an_axis_is_refused() -> None:
    trunk = Trunk()
    trunk.gain = nn.Parameter(torch.ones(()))
    with pytest.raises(UsageError, match="HZ-U87 a parameter without an axis") as caught:
        sharding.shard(make("simclr", trunk=trunk), torch.device("cpu"))
    assert "backbone.gain" in caught.value.got and "shard = true" in caught.value.next_step


def test_what_is_not_sharded_passes_as_it_is() -> None:
    recipe = make("dino")
    with sharding.whole(recipe, None) as same:
        assert same is recipe
    state = recipe.state_dict()
    assert all(sharding.for_file(state)[k] is v for k, v in state.items())
