"""The fit of a slide model: against a plain Adam, the epoch that is kept, and going on after a kill with the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from histozoo.errors import UsageError
from histozoo.evaluate.slides.attention import SlideHead, bag_loss
from histozoo.evaluate.slides.fitting import BagSteps, Epoch, Part, fit
from histozoo.evaluate.slides.model import Settings, SlideModel, judge
from tests.fakes.bags import MEAN, STD, Encoder


def model(*, epochs: int = 3, **settings: object) -> SlideModel:
    torch.manual_seed(0)
    return SlideModel(SlideHead(4, 2), settings=Settings(epochs=epochs, lr=3e-3, **settings))


def bags(n: int, *, seed: int = 0) -> Part:
    generator = torch.Generator().manual_seed(seed)
    stored = [torch.randn((3 + i % 3, 4), generator=generator) + i % 2 for i in range(n)]
    return Part(bags=stored.__getitem__, labels=[i % 2 for i in range(n)])


def test_the_engine_takes_the_steps_of_a_plain_adam_one_whole_bag_at_a_time() -> None:
    train, reference = bags(5), model(epochs=2)
    optimizer = torch.optim.Adam(reference.parameters(), lr=3e-3)
    steps = BagSteps(train.bags, train.labels, epochs=2, seed=7)
    for step in range(10):
        one = steps[step]
        optimizer.zero_grad()
        bag_loss(reference.head(one["bag"][None]), one["label"][None]).backward()
        optimizer.step()
    # As it chooses the last of equals, an accuracy that is always 1 gives the last epoch.
    same = Part(
        bags=lambda _: torch.zeros(1, 4), labels=[int(judge(reference, torch.zeros(1, 4))[0].argmax())]
    )
    fitted = fit(model(epochs=2, select="accuracy"), train, same, seed=7)
    assert fitted.best == 2
    expected = dict(reference.named_parameters())
    # A shift of all scores changes no softmax: the gradient of this bias is rounding noise, which Adam blows up to whole steps.
    expected.pop("head.attention.score.bias")
    for name, parameter in expected.items():
        torch.testing.assert_close(fitted.model.get_parameter(name), parameter, atol=1e-6, rtol=1e-6)


def test_every_epoch_shows_every_bag_once_in_an_order_of_its_own() -> None:
    steps = BagSteps(bags(8).bags, bags(8).labels, epochs=3, seed=1)
    orders = steps.order.reshape(3, 8)
    assert all(sorted(order) == list(range(8)) for order in orders.tolist())
    assert len({tuple(order) for order in orders.tolist()}) == 3


def test_the_model_gets_the_weights_of_its_best_epoch() -> None:
    """Validation labels are the opposite of what is learnt, so that the loss grows from the first epoch on."""
    train = bags(6)
    validation = Part(bags=train.bags, labels=[1 - label for label in train.labels])
    fitted = fit(model(epochs=5), train, validation, seed=0)
    losses = [e.loss for e in fitted.epochs]
    assert len(losses) == 5 and fitted.best - 1 == int(np.argmin(losses)) and fitted.best < 5
    with torch.no_grad():
        logits_SK = torch.stack([judge(fitted.model, validation.bags(i))[0] for i in range(6)])
    found = torch.nn.functional.cross_entropy(logits_SK.double(), torch.tensor(validation.labels))
    assert float(found) == pytest.approx(losses[fitted.best - 1], abs=1e-9)
    assert not fitted.model.training


def test_the_later_of_equal_epochs_is_kept() -> None:
    first, second = Epoch(loss=0.5, accuracy=0.8), Epoch(loss=0.6, accuracy=0.8)
    assert second.beats(first, "accuracy") and not second.beats(first, "loss")
    assert first.beats(first, "loss") and first.beats(None, "loss")


def test_a_fit_that_was_killed_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    train, validation = bags(4), bags(4, seed=1)
    whole = fit(model(epochs=4), train, validation, seed=0)
    calls = 0

    def dies(i: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2 * 4 + 2:  # in the validation after the third epoch
            raise RuntimeError("killed")
        return validation.bags(i)

    with pytest.raises(RuntimeError, match="killed"):
        fit(model(epochs=4), train, Part(bags=dies, labels=validation.labels), seed=0, run=tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint-8").is_dir() and not (tmp_path / "run" / "checkpoint-12").exists()
    for _ in range(2):  # the second time everything is there already
        again = fit(model(epochs=4), train, validation, seed=0, run=tmp_path / "run")
        assert (again.epochs, again.best) == (whole.epochs, whole.best)
        states = whole.model.state_dict(), again.model.state_dict()
        assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_batch_norms_keep_their_statistics_and_learn_their_weights() -> None:
    encoder = Encoder()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    tuned = SlideModel(
        SlideHead(4, 2), settings=Settings(epochs=1, lr=1e-2), encoder=encoder, mean=MEAN, std=STD
    )
    random = np.random.default_rng(0)
    stored = [torch.from_numpy(random.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)) for _ in range(2)]
    part = Part(bags=stored.__getitem__, labels=[0, 1])
    fit(tuned, part, part, seed=0)
    after = encoder.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in ("norm.running_mean", "norm.running_var"))
    assert not torch.equal(before["norm.weight"], after["norm.weight"])
    assert not torch.equal(before["conv.weight"], after["conv.weight"])


def test_a_bag_of_pixels_goes_through_the_encoder_in_pieces_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuned = SlideModel(SlideHead(4, 2), settings=Settings(), encoder=Encoder(), mean=MEAN, std=STD)
    bag = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8))
    whole = judge(tuned, bag)
    monkeypatch.setattr("histozoo.evaluate.slides.model.PIECE", 3)
    for a, b in zip(whole, judge(tuned, bag), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_an_encoder_that_does_not_pool_is_refused() -> None:
    unpooled = SlideModel(
        SlideHead(4, 2), settings=Settings(), encoder=Encoder(pooled=False), mean=MEAN, std=STD
    )
    with pytest.raises(UsageError, match=r"HZ-I72 the encoder does not pool(.|\n)*\[2, 4, 8, 8\]"):
        judge(unpooled, torch.zeros((2, 8, 8, 3), dtype=torch.uint8))
