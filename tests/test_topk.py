"""Fine-tuning on the tiles attended most: who chooses, what is chosen, what learns, what is judged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from histozoo.errors import UsageError
from histozoo.evaluate.probe import features
from histozoo.evaluate.slides import topk
from histozoo.evaluate.slides.bags import Bags, from_tiles
from histozoo.evaluate.slides.crossval import fit_head, slide_folds
from histozoo.evaluate.slides.model import Settings, judge
from histozoo.evaluate.slides.topk import Encoder, Tuning, choose_tiles, tune_fold
from tests.fakes import bags as fakes

SETTINGS, TUNING = Settings(epochs=3, lr=1e-2), Tuning(k=2, epochs=2, lr=1e-3, choosers=2)


def made(order: np.ndarray | None = None, *, slides: int = 12) -> tuple[Bags, Encoder]:
    tiles_NHWC, labels_N, slides_N, names = fakes.pixels(slides=slides)
    order = np.arange(len(labels_N)) if order is None else order
    encoder = Encoder(
        model=fakes.Encoder().eval(), tiles_NHWC=tiles_NHWC[order], mean=fakes.MEAN, std=fakes.STD
    )
    f_ND = features(encoder.model, encoder.tiles_NHWC, mean=encoder.mean, std=encoder.std)
    bags = from_tiles(
        f_ND, labels_N[order], [slides_N[i] for i in order], task="toy", classes=fakes.CLASSES,
        names=[names[i] for i in order],
    )  # fmt: skip
    return bags, encoder


def test_a_fold_is_tuned_without_its_slides_and_judged_on_all_their_tiles() -> None:
    bags, encoder = made(np.random.default_rng(0).permutation(48))
    before = {k: v.clone() for k, v in encoder.model.state_dict().items()}
    fold_S = slide_folds(bags, folds=2, seed=0)
    found = tune_fold(bags, encoder, fold_S, 0, settings=SETTINGS, tuning=TUNING, seed=0)
    held_out = np.flatnonzero(fold_S == 0)
    assert sorted(found.chosen) == np.flatnonzero(fold_S == 1).tolist()
    for slide, rows in found.chosen.items():
        assert len(rows) == 2 and set(bags.slide_N[rows]) == {slide}
    assert len(found.result.attention_N) == int(np.isin(bags.slide_N, held_out).sum())
    assert found.result.slides_S.tolist() == found.before.slides_S.tolist() == held_out.tolist()
    assert len(found.result.epochs) == 2 and len(found.before.epochs) == 3
    after, tuned = encoder.model.state_dict(), found.model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)  # every fold tunes a copy
    assert not torch.equal(tuned["conv.weight"], before["conv.weight"])
    assert torch.equal(tuned["norm.running_var"], before["norm.running_var"])
    again = tune_fold(bags, encoder, fold_S, 0, settings=SETTINGS, tuning=TUNING, seed=0)
    assert again.result.to_json() == found.result.to_json()


def test_the_pixels_of_a_row_are_those_its_features_were_made_from() -> None:
    bags, encoder = made(np.random.default_rng(3).permutation(48))
    pixels = topk._Pixels(encoder.tiles_NHWC, bags.order_N)
    f_ND = features(encoder.model, pixels(np.arange(48)).numpy(), mean=encoder.mean, std=encoder.std)
    np.testing.assert_allclose(f_ND, bags.f_ND, atol=1e-6)


def test_tiles_are_chosen_by_heads_that_saw_no_slide_of_the_patient_nor_of_the_fold() -> None:
    bags, _ = made(slides=20)
    bags = dataclasses.replace(
        bags, patients=tuple(f"p{s % 2}{s // 4}" for s in range(20))
    )  # two slides each
    outside = np.arange(16)
    seen: list[tuple[set[str], set[str]]] = []
    chosen = choose_tiles(
        bags, outside, settings=SETTINGS, tuning=TUNING, seed=0,
        seen=lambda known, from_: seen.append(({bags.patients[s] for s in known}, {bags.patients[s] for s in from_})),
    )  # fmt: skip
    assert sorted(chosen) == outside.tolist() and len(seen) == 2
    fold = {bags.patients[s] for s in range(16, 20)}
    assert all(known and from_ and not known & (from_ | fold) for known, from_ in seen)


def test_the_chosen_tiles_are_those_with_the_highest_score_of_their_chooser() -> None:
    bags, _ = made()
    kept = {}

    def spy(*args: object, **options: object) -> object:
        fitted = fit_head(*args, **options)
        kept.update({int(s): fitted.model for s in args[1].held_out})
        return fitted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "fit_head", spy)
        chosen = choose_tiles(bags, np.arange(8), settings=SETTINGS, tuning=TUNING, seed=0)
    for slide, rows in chosen.items():
        scores_T = judge(kept[slide], torch.from_numpy(bags.bag(slide)))[1].numpy()
        assert (rows - bags.rows(slide).start).tolist() == np.argsort(-scores_T, kind="stable")[:2].tolist()


def test_the_published_numbers_are_the_presets() -> None:
    assert (Tuning().k, Tuning().epochs, Tuning().lr) == (64, 20, 1e-5)
    published = Settings()
    assert (published.epochs, published.lr, published.alpha, published.beta) == (20, 1e-3, 1, 0)


def test_what_cannot_go_together_is_refused_before_anything_is_fitted() -> None:
    bags, encoder = made()
    fold_S = slide_folds(bags, folds=2, seed=0)

    def tune(bags: Bags = bags, encoder: Encoder = encoder, **changes: object) -> None:
        tune_fold(bags, encoder, fold_S, 0, **{"settings": SETTINGS, "tuning": TUNING, "seed": 0, **changes})

    with pytest.raises(UsageError, match="HZ-I72 tiles can be chosen by attention only"):
        tune(settings=Settings(pooling="mean"))
    with pytest.raises(UsageError, match="HZ-I72 the features of the bags are not those of this encoder"):
        tune(bags.with_features(bags.f_ND + 1))
    with pytest.raises(UsageError, match="HZ-I72 the features of the bags are not those of this encoder"):
        tune(encoder=dataclasses.replace(encoder, model=fakes.Encoder(pooled=False)))
    with pytest.raises(UsageError, match="HZ-I64"):
        tune(encoder=dataclasses.replace(encoder, tiles_NHWC=encoder.tiles_NHWC[1:]))
