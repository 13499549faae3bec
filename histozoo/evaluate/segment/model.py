"""The U-Net that every initialisation shares: an encoder by timm's name, its weights put in and checked, and one decoder.

segmentation-models-pytorch builds encoder (`tu-<timm name>`, timm with `features_only`) and decoder; weights never come through it: they
are taken from a whole model (histozoo's verified load, or timm's) tensor by tensor. Under one seed the decoder starts from the same bits
whatever the encoder's weights are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histozoo.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DECODER = (256, 128, 64, 32, 16)
"""Channels of the decoder's five steps, as in the U-Net of the paper."""
_LEVELS = 4
"""Feature levels an encoder must have: 1/4, 1/8, 1/16 and 1/32 of the side; 1/2 is left out where it lacks it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Where an encoder starts from.

    Args:
        name: What the initialisation is called in results.
        architecture: timm's name.
        tensors: The whole model's tensors; None for random weights.
        mean, std: Channel statistics for values scaled to [0, 1]: those that belong to the weights; random ones have none of
            their own and take those they are given.
        lineages: Lineages of the tasks it was trained on, where they are known (zoo entries).
    """

    name: str
    architecture: str
    tensors: dict[str, Tensor] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    lineages: frozenset[str] = frozenset()


def start(init: str | nn.Module, *, architecture: str, name: str = "", like: Start | None = None) -> Start:
    """Returns an initialisation.

    Args:
        init: `random`, the name of a zoo entry or a bundle folder, `timm:<model>` (timm's pretrained weights), or a timm model.
        architecture: timm's name, the same for every initialisation that is compared.
        name: What it is called in results; `init` itself where it is text.
        like: For `random`: whose channel statistics it is fed by, so that the two differ by their weights alone; ImageNet's otherwise.

    Raises:
        UsageError: `HZ-I70`, it is of another architecture; and what `histozoo.load` raises.
    """
    if init == "random":
        mean, std = (like.mean, like.std) if like else IMAGENET
        return Start(name=name or "random", architecture=architecture, tensors=None, mean=mean, std=std)
    model, lineages = _model(init)
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    found = str(config.get("architecture", type(model).__name__))
    if found != architecture:
        raise UsageError(
            "HZ-I70",
            "an initialisation is of another architecture than the study compares",
            where=name or str(init)[:80],
            expected=architecture,
            got=found,
            next_step="compare initialisations of one architecture; another one is another study",
        )
    return Start(
        name=name or (init if isinstance(init, str) else found),
        architecture=architecture,
        tensors={key: value.detach().clone() for key, value in model.state_dict().items()},
        mean=tuple(config.get("mean", IMAGENET[0])),
        std=tuple(config.get("std", IMAGENET[1])),
        lineages=lineages,
    )


def _model(init: str | nn.Module) -> tuple[nn.Module, frozenset[str]]:
    if not isinstance(init, str):
        return init, frozenset()
    if init.startswith("timm:"):
        import timm

        model: nn.Module = timm.create_model(init.removeprefix("timm:"), pretrained=True, num_classes=0)
        return model, frozenset()
    from histozoo import registry
    from histozoo.loading import load

    corpus = registry.resolve(init).corpus
    return load(init), frozenset(str(part["lineage"]) for part in corpus)


def unet(
    begin: Start, *, seed: int, px: int, decoder: Sequence[int] = DECODER
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Returns encoder, decoder and head (one logit per pixel) in training mode; the global random state is left as it was.

    Args:
        begin: The encoder's weights.
        seed: Draws the decoder, the head, and a random encoder.
        px: Side of the crops that it will see.
        decoder: Channels of the decoder's five steps, from the coarsest.

    Raises:
        UsageError: `HZ-I70` the architecture has not the feature levels that a U-Net needs or cannot see crops of this side; `HZ-U76`
            segmentation-models-pytorch is not installed.
        IntegrityError: `HZ-A05`, a tensor of the encoder is not among the weights.
    """
    import torch

    try:
        import segmentation_models_pytorch as smp  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError(
            "HZ-U76",
            "segmentation-models-pytorch is not installed",
            got=str(error),
            next_step="pip install 'histozoo[eval]'",
        ) from error
    _check_levels(begin.architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = smp.Unet(
                f"tu-{begin.architecture}", encoder_weights=None, decoder_channels=tuple(decoder), classes=1
            )
        except (ValueError, RuntimeError, TypeError, IndexError, AssertionError) as error:
            raise _unfit(
                begin.architecture, str(error), expected="an architecture that a U-Net can stand on"
            ) from error
    _check_forward(model, px, begin.architecture)
    if begin.tensors is not None:
        put_in(model.encoder.model, begin.tensors, where=begin.name)
    return model.encoder, model.decoder, model.segmentation_head


def _check_levels(architecture: str) -> None:
    """Refuses an architecture without a feature pyramid, before smp is asked."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            pyramid: Any = timm.create_model(architecture, features_only=True)
        levels = pyramid.feature_info.reduction()
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, AssertionError) as error:
        raise _unfit(architecture, f"{type(error).__name__}: {error}") from error
    if len(set(levels)) < _LEVELS or sorted(set(levels)) != list(levels):
        raise _unfit(architecture, f"features at 1/{', 1/'.join(map(str, levels))} of the side")


def _check_forward(model: nn.Module, px: int, architecture: str) -> None:
    import torch

    model.eval()
    try:
        with torch.inference_mode():
            found = model(torch.zeros(1, 3, px, px)).shape
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _unseen(architecture, str(error), px) from error
    model.train()
    if tuple(found) != (1, 1, px, px):
        raise _unseen(architecture, f"a mask of {list(found)}", px)


def _unfit(architecture: str, got: str, *, expected: str = "") -> UsageError:
    return UsageError(
        "HZ-I70",
        "this architecture has not the feature levels that a U-Net needs",
        where=architecture,
        expected=expected or f"{_LEVELS} levels or more, each half the side of the one before",
        got=got,
        next_step="take a convolutional or hierarchical architecture, such as resnet18 or convnext_tiny",
    )


def _unseen(architecture: str, got: str, px: int) -> UsageError:
    return UsageError(
        "HZ-I70",
        "this architecture cannot see crops of this side",
        where=architecture,
        expected=f"a mask of {px} x {px} px for a crop of {px} x {px} px",
        got=got,
        next_step="give as `px` the side that it was built for, or take an architecture for any side, such as resnet18",
    )


def put_in(encoder: nn.Module, tensors: dict[str, Tensor], *, where: object = "") -> None:
    """Replaces every tensor of timm's `features_only` model by that of the whole model, bit for bit.

    timm joins names of nested blocks with `_` there (`stages_0.` for `stages.0.`); otherwise names are the same.

    Raises:
        IntegrityError: `HZ-A05`, a tensor of the encoder is missing among the weights, or of another shape.
    """
    whole: dict[str, Tensor] = {key.replace(".", "_"): value for key, value in tensors.items()}
    state = encoder.state_dict()
    wrong = [k for k, v in state.items() if _shape(whole.get(k.replace(".", "_"))) != tuple(v.shape)]
    if wrong or len(whole) != len(tensors):
        raise IntegrityError(
            "HZ-A05",
            "the weights are not those of the encoder's architecture",
            where=where,
            expected="a tensor of the same name and shape for each of the encoder's",
            got=", ".join(wrong[:5]) or "two names that differ in dots only",
            kept="nothing was trained",
        )
    encoder.load_state_dict({k: whole[k.replace(".", "_")] for k in state}, strict=True)


def _shape(tensor: Any) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)
