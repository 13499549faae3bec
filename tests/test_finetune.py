"""Fine-tuning: what is learnt, what stays as it was, what a kill leaves, what is refused."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from histozoo.errors import IntegrityError
from histozoo.evaluate import scored
from histozoo.evaluate.finetune import MODES, run
from histozoo.evaluate.finetune.fit import logits
from histozoo.evaluate.finetune.recipe import Finetuning
from histozoo.evaluate.finetune.store import Finetuned
from histozoo.evaluate.probe import features
from histozoo.evaluate.statistics import balanced_accuracy
from tests.fakes.killer import kill, kill_until_done, start, wait
from tests.fakes.tuned import STATISTICS, TASK, TinyNet, coloured, parts, tiny_net, tuned

SPLIT = parts(TASK)


def trunk_after(found: Finetuned) -> dict[str, torch.Tensor]:
    return load_file(found.folder / "final" / "trunk.safetensors")


def accuracy(found: Finetuned, labels_N: np.ndarray) -> float:
    return balanced_accuracy(labels_N[found.predictions.rows_N], found.predictions.guesses_N, 2)


def same(one: Finetuned, other: Finetuned) -> bool:
    a, b = (dataclasses.replace(f, seconds=0.0, folder=Path()) for f in (one, other))
    arrays = [
        np.array_equal(getattr(a.predictions, k), getattr(b.predictions, k)) for k in ("rows_N", "scores_NK")
    ]
    return all(arrays) and dataclasses.replace(a, predictions=b.predictions) == b


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """The Trainer collects garbage after every training; what the other tests left need not be looked through each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Finetuned:
    """One fine-tuning without interruption."""
    return tuned(tmp_path_factory.mktemp("whole"), keep_trunk=True)


# -- what is learnt


class Numbered(TinyNet):
    """The net with its layers numbered as timm does it, for rates that fall with depth."""

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": r"^body\.[01]\.", "blocks": r"^body\.(\d+)\."}


@pytest.mark.parametrize("mode", MODES)
def test_separable_classes_reach_one_in_every_mode(tmp_path: Path, mode: str) -> None:
    torch.manual_seed(0)
    found = tuned(tmp_path, module=Numbered().eval(), mode=mode, steps=60, eval_every=30)
    assert accuracy(found, TASK.labels_N) == 1.0
    assert found.predictions.rows_N.tolist() == SPLIT.test.tolist()
    assert found.predictions.probabilities and np.allclose(found.predictions.scores_NK.sum(1), 1, atol=1e-6)
    value = scored.estimate(
        TASK.labels_N[SPLIT.test],
        found.predictions.scores_NK,
        TASK.groups_N[SPLIT.test],
        metric="roc_auc_ovr",
    )
    assert value.value == 1.0


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(
    tmp_path: Path, whole: Finetuned
) -> None:
    assert same(whole, tuned(tmp_path / "a", keep_trunk=True))
    assert not same(whole, tuned(tmp_path / "b", seed=1, keep_trunk=True))


def test_the_best_look_decides_and_the_test_rows_are_predicted_by_it(whole: Finetuned) -> None:
    assert [look.step for look in whole.curve] == [10, 20, 30, 40]
    best = max(whole.curve, key=lambda look: (look.score, -look.loss))
    assert whole.best_step == best.step and whole.by_lr == {whole.lr: best.score}
    assert whole.seconds > 0 and whole.rows == len(SPLIT.train) and whole.fraction == 1.0


def test_training_stops_when_looks_get_no_better(tmp_path: Path) -> None:
    noise = coloured(shuffled=True, seed=5)
    found = tuned(tmp_path, labelled=noise, steps=400, eval_every=5, patience=2, lrs=(3e-2,))
    assert found.curve[-1].step == found.best_step + 10
    assert found.curve[-1].step < 400


def test_a_fit_ends_with_the_weights_of_its_best_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Finetuning] = []
    fitted = run.fit
    monkeypatch.setattr(run, "fit", lambda recipe, *a, **k: (seen.append(recipe), fitted(recipe, *a, **k)))
    noise = coloured(shuffled=True, seed=5)
    found = tuned(tmp_path, labelled=noise, steps=100, eval_every=5, patience=2, lrs=(3e-2,))
    (recipe,) = seen
    assert found.best_step < found.curve[-1].step
    logits_nK = logits(recipe, noise, parts(noise).val)
    best = next(look for look in found.curve if look.step == found.best_step)
    assert balanced_accuracy(noise.labels_N[parts(noise).val], logits_nK.argmax(1), 2) == best.score
    now = recipe.moving()
    assert len(now) == 14 and all(torch.equal(now[k].cpu(), v) for k, v in recipe.kept.weights.items())


def test_the_learning_rate_is_chosen_on_the_validation_rows(tmp_path: Path) -> None:
    found = tuned(tmp_path, lrs=(1e-9, 3e-3), eval_every=40)
    assert found.lr == 3e-3 and set(found.by_lr) == {1e-9, 3e-3}
    assert found.by_lr[3e-3] >= found.by_lr[1e-9]


def test_labels_of_the_test_rows_change_nothing_that_is_predicted(tmp_path: Path, whole: Finetuned) -> None:
    labels_N = TASK.labels_N.copy()
    labels_N[SPLIT.test] = 1 - labels_N[SPLIT.test]
    found = tuned(tmp_path, labelled=dataclasses.replace(TASK, labels_N=labels_N), split=SPLIT)
    assert np.array_equal(found.predictions.scores_NK, whole.predictions.scores_NK)
    assert accuracy(found, labels_N) == 0.0


def test_predictions_are_those_of_the_trunk_that_is_kept(whole: Finetuned) -> None:
    """The kept trunk tells the classes apart by itself; the model that was given did not change."""
    module = tiny_net()
    assert not torch.equal(trunk_after(whole)["body.0.weight"], module.state_dict()["body.0.weight"])
    module.load_state_dict(trunk_after(whole), strict=True)
    f_ND = features(module, TASK.tiles_NHWC[SPLIT.test], **STATISTICS)
    means_2D = np.stack([f_ND[TASK.labels_N[SPLIT.test] == k].mean(0) for k in (0, 1)])
    guesses_N = ((f_ND[:, None] - means_2D[None]) ** 2).sum(2).argmin(1)
    assert balanced_accuracy(TASK.labels_N[SPLIT.test], guesses_N, 2) == 1.0


# -- what stays as it was


def changed(tmp_path: Path, mode: str, module: nn.Module, **changes: Any) -> set[str]:
    before = copy.deepcopy(module.state_dict())
    after = trunk_after(tuned(tmp_path, module=module, mode=mode, keep_trunk=True, steps=10, **changes))
    assert after.keys() == before.keys()
    assert all(torch.equal(module.state_dict()[k], v) for k, v in before.items()), (
        "the module given was changed"
    )
    return {k for k in before if not torch.equal(before[k], after[k])}


def test_a_head_alone_leaves_every_bit_of_the_trunk(tmp_path: Path) -> None:
    assert changed(tmp_path, "head_only", tiny_net()) == set()


def test_frozen_batch_norm_keeps_statistics_gains_and_biases(tmp_path: Path) -> None:
    assert changed(tmp_path, "frozen_bn", tiny_net()) == {"body.0.weight", "body.4.weight"}


def test_full_fine_tuning_moves_everything(tmp_path: Path) -> None:
    assert changed(tmp_path, "full", tiny_net()) == set(tiny_net().state_dict())


def test_low_rank_updates_move_the_adapted_weights_alone_and_by_their_rank(tmp_path: Path) -> None:
    assert changed(tmp_path / "a", "lora", tiny_net()) == {"body.0.weight", "body.4.weight"}
    moved = load_file(tmp_path / "a/final/trunk.safetensors")["body.4.weight"]
    update = (moved - tiny_net().state_dict()["body.4.weight"]).flatten(1)
    singular = torch.linalg.svdvals(update.double())
    assert singular[1] > 1e-4 * singular[0] and singular[2] < 1e-4 * singular[0]


def test_the_number_of_trained_parameters_is_that_of_the_mode(tmp_path: Path) -> None:
    head, kernels, norms = 8 * 2 + 2, 8 * 27 + 8 * 72, 4 * 8
    adapters = 2 * (8 + 27) + 2 * (8 + 72)
    wanted = {
        "full": head + kernels + norms,
        "frozen_bn": head + kernels,
        "lora": head + adapters,
        "head_only": head,
    }
    found = {m: tuned(tmp_path / m, mode=m, steps=1, warmup_steps=0, eval_every=1).parameters for m in wanted}
    assert found == wanted


# -- kills


def test_a_fit_that_is_killed_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, whole: Finetuned
) -> None:
    kills = kill_until_done(lambda: tuned(tmp_path, keep_trunk=True), seed=3, kills=6, longest=0.6)
    assert kills > 0 and same(whole, tuned(tmp_path, keep_trunk=True))
    assert all(
        torch.equal(v, trunk_after(whole)[k])
        for k, v in load_file(tmp_path / "final/trunk.safetensors").items()
    )


def test_a_fit_killed_half_way_continues_from_its_checkpoint(tmp_path: Path, whole: Finetuned) -> None:
    child, note = start(lambda: tuned(tmp_path, keep_trunk=True))
    half = tmp_path / "lr-0.003" / "checkpoint-20"
    while not half.is_dir():
        assert not wait(child, note, 0.002), "it finished before it could be killed"
    kill(child)
    assert half.is_dir() and not (tmp_path / "final").exists()
    assert same(whole, tuned(tmp_path, keep_trunk=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "final", "finetune.json"]


def test_a_finished_fit_is_read_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tuned(tmp_path)
    monkeypatch.setattr("histozoo.evaluate.finetune.run.fit", None)
    again = tuned(tmp_path)
    assert same(first, again) and again.seconds == first.seconds
    with pytest.raises(IntegrityError, match="HZ-F44"):
        tuned(tmp_path, seed=1)
    with pytest.raises(IntegrityError, match="HZ-F44"):
        tuned(tmp_path, module=tiny_net(seed=1))
    result = tmp_path / "final" / "result.json"
    result.write_text(json.dumps({**json.loads(result.read_text()), "best_step": 1}))
    with pytest.raises(IntegrityError, match="HZ-F43"):
        tuned(tmp_path)
