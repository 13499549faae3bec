"""Two processes with half of the batch each against one with the whole: the same loss, gradient, teacher, queue, centre and statistics."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from histozoo.recipes import parts, swav
from tests.fakes.ssl import MADE, batch, make

STEPS, ROWS = 3, 8
EVERY = [*MADE, "multitaskssl"]
TASKS = ((0, 1, 0, 1, -1, -1, -1, -1), (0, 0, 1, -1, 1, -1, -1, -1), (-1, -1, 0, 0, 1, 1, 1, -1))
"""Labels of the steps: in the first the second process has none."""
State = dict[str, Any]


def trained(name: str, rank: int, processes: int) -> State:
    """Returns the losses, the gradients of the first step and the state after some steps of one process's share."""
    recipe = make(name)
    groups = [
        {**group, "lr": 0.005} for group in recipe.param_groups()
    ]  # small: rounding must not grow from step to step
    optimizer = torch.optim.SGD(groups, lr=0.005)
    model: Any = recipe
    if processes > 1:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # newer torch has another word for it, which older torch does not know
            model = DistributedDataParallel(recipe, broadcast_buffers=False)
    losses, first = [], {}
    for step in range(STEPS):
        whole = {**batch(recipe, ROWS, seed=step), "task": torch.tensor(TASKS[step])}
        share = {k: v.tensor_split(processes)[rank] for k, v in whole.items()}
        recipe.on_step(step)
        loss = model(share)["loss"]
        loss.backward()
        if step == 0:
            first = {k: p.grad.clone() for k, p in recipe.named_parameters() if p.grad is not None}
        recipe.before_step()
        optimizer.step()
        recipe.after_step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    mean = torch.stack(losses)
    if processes > 1:
        dist.all_reduce(mean)
    return {"losses": mean / processes, "gradients": first, "state": recipe.state_dict()}


def uneven(rank: int, processes: int) -> Tensor:
    """Sinkhorn of 7 rows, of which the processes hold 7 and 0, or one holds all."""
    scores = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    own = scores if rank == 0 else scores[:0]
    q = swav.sinkhorn(own, epsilon=0.1, rounds=3)
    mean = parts.joint_mean(own)
    return torch.cat([q.flatten(), mean]) if rank == 0 else torch.zeros(0)


def work(rank: int, processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    results = {name: trained(name, rank, processes) for name in EVERY}
    results["uneven"] = {"rows": uneven(rank, processes)}
    torch.save(results, Path(folder) / f"{processes}_{rank}")
    if processes > 1:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, State, State]:
    folder = tmp_path_factory.mktemp("joint")
    # A fork has torch imported already, which costs 10 s and more; autograd refuses to run in one where there is a GPU.
    method = "spawn" if torch.cuda.is_available() else "fork"
    multiprocessing.start_processes(work, args=(2, str(folder)), nprocs=2, start_method=method)
    work(0, 1, str(folder))
    return tuple(torch.load(folder / name) for name in ("1_0", "2_0", "2_1"))  # type: ignore[return-value]


def close(a: Tensor, b: Tensor, scale: float = 1e-5) -> bool:
    return torch.allclose(
        a.double(), b.double(), rtol=scale, atol=scale * max(1e-2, float(b.double().abs().max()))
    )


@pytest.mark.parametrize("name", EVERY)
def test_two_processes_give_the_loss_gradient_and_state_of_the_joint_batch(
    results: tuple[State, State, State], name: str
) -> None:
    one, first, second = (r[name] for r in results)
    assert close(first["losses"], one["losses"])
    assert first["gradients"].keys() == one["gradients"].keys() and len(one["gradients"]) > 5
    assert max(float(g.abs().max()) for g in one["gradients"].values()) > 1e-4
    for key, gradient in one["gradients"].items():
        assert close(first["gradients"][key], gradient), key
    for key, value in one["state"].items():
        assert torch.equal(first["state"][key], second["state"][key]), key  # processes never drift apart
        assert close(first["state"][key], value, 1e-4), key


def test_processes_with_different_numbers_of_rows_solve_one_joint_assignment(
    results: tuple[State, State, State],
) -> None:
    one, first, _ = (r["uneven"]["rows"] for r in results)
    assert len(one) == 40 and close(first, one)


def test_the_half_batch_alone_has_another_loss_where_the_loss_looks_across_tiles() -> None:
    """Otherwise the comparison above would say nothing of the gathering."""
    for name in ("simclr", "barlow", "vicreg", "moco", "swav", "ibot", "multitaskssl"):
        recipe = make(name)
        whole = {**batch(recipe, ROWS), "task": torch.tensor(TASKS[1])}
        halves = [recipe({k: v.tensor_split(2)[i] for k, v in whole.items()})["loss"] for i in range(2)]
        assert not close(torch.stack(halves).mean().detach(), recipe(whole)["loss"].detach(), 1e-3), name


def test_the_joint_batch_norm_is_torchs_own_on_one_process() -> None:
    torch.manual_seed(0)
    ours, theirs = parts.JointBatchNorm(5), torch.nn.BatchNorm1d(5)
    x = torch.randn(6, 5) * 3 + 1
    assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.running_var, theirs.running_var)
