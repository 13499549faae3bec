"""What every kind of study is set by: the keys of a study file's presets, and their defaults."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Multitask:
    """Does pretraining on many tasks pay on tasks of other lineages?

    Args:
        models: Names for `histozoo evaluate`. Each is compared with the baselines behind the first, `random:NAME` (of one architecture)
            and `colour-histogram`; and the first with all others.
        tasks: Tasks of the pool.
        protocols: Of `histozoo evaluate`.
        finetune: Preset of fine-tuning, `small` or `full`.
        seeds: The first is of folds, splits and resampling; each is of one fine-tuning.
        resamples: Bootstrap resamples of each interval.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    protocols: tuple[str, ...]
    finetune: str = "small"
    seeds: tuple[int, ...] = (0,)
    resamples: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """From which size of training set on is a pretrained encoder no better than a random one?

    Args:
        models: Names of encoders (entries, runs, `timm:`), of one architecture; each is compared with random weights.
        called: Model -> what the report calls it, where its name is long.
        sizes: Set that is trained on -> numbers of training groups, ascending.
        away: Sets that are tested on as well, where they show the same objects as the set trained on.
        modes: `frozen`, `finetuned`.
        seeds: Each draws nested training sets, decoder and crops.
        steps, px, batch_size, lr, decoder, precision: As in the training of one U-Net.
        stride: From one window of a prediction to the next, in pixels; 0 for half a window.
        shrink: Set -> whole factor that its pictures are reduced by; 1 where it is not there.
        per_group: Pictures of each training group at most; 0 for all.
        test: Share of the pictures trained on that is kept for testing.
        metrics: The first decides; of it, more must be better.
        seed: Of split and resampling.
        resamples: Bootstrap resamples of each interval.
    """

    models: tuple[str, ...]
    sizes: dict[str, tuple[int, ...]]
    called: dict[str, str] = field(default_factory=dict)
    away: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("frozen", "finetuned")
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 2_000
    px: int = 256
    stride: int = 0
    batch_size: int = 16
    lr: float = 1e-3
    decoder: tuple[int, ...] = (256, 128, 64, 32, 16)
    precision: str = "fp32"
    shrink: dict[str, int] = field(default_factory=dict)
    per_group: int = 0
    test: float = 0.5
    metrics: tuple[str, ...] = ("dice", "iou", "object_dice", "aji_plus", "pq")
    seed: int = 0
    resamples: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Slides:
    """What tells slides apart: attention or the mean, frozen or fine-tuned on the tiles attended most, and how deep must the trunk be?

    Args:
        models: Names of encoders; each is compared with its random twin, and with `colour-histogram` where that is one of them.
        called: As in `Segmentation`.
        task: Task whose groups are slides.
        poolings: Heads on frozen features; `mean` is what the others are compared with.
        seeds: Of the heads.
        folds, epochs, select, standardise: As in the plan of slides.
        top_k: Tiles per slide for fine-tuning; 0 for none.
        tuned_pooling: Pooling of the fine-tuned model.
        tuning_epochs, tuning_lr, choosers: As in `Tuning`.
        cut_tasks: Tasks of the pool on which the features of every stage of the first model are probed.
        margin: Loss of balanced accuracy that would not matter for a shorter trunk.
        cka: Compare the blocks of frozen and fine-tuned model.
        seed: Of folds and resampling.
        resamples: Bootstrap resamples of each interval.
    """

    models: tuple[str, ...]
    task: str
    called: dict[str, str] = field(default_factory=dict)
    poolings: tuple[str, ...] = ("attention", "gated", "mean")
    seeds: tuple[int, ...] = (0, 1, 2)
    folds: int = 5
    epochs: int = 20
    select: str = "loss"
    standardise: bool = True
    top_k: int = 64
    tuned_pooling: str = "attention"
    tuning_epochs: int = 20
    tuning_lr: float = 1e-5
    choosers: int = 3
    cut_tasks: tuple[str, ...] = ()
    margin: float = 0.02
    cka: bool = True
    seed: int = 0
    resamples: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which setting of a pretraining transfers best to lineages that it never saw?

    Args:
        experiment: TOML file of an experiment, seen from where the command is given.
        candidates: Name -> what it changes in the experiment, as `key=value`; two or more, the chosen one is compared with the first.
        lineages: Left out one at a time; their tasks choose and are reported. Two or more.
        common: What all candidates change, as `key=value`.
        seeds: Of pretraining, each candidate with each.
        protocol: Of frozen features, for validation and test.
        seed, resamples: As above; the seed is of splits and inner folds, too.
    """

    experiment: str
    candidates: dict[str, tuple[str, ...]]
    lineages: tuple[str, ...]
    common: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    protocol: str = "linear_svm"
    seed: int = 0
    resamples: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Which pretraining method gives the best features for the same tiles, trunk and work?

    Args:
        architecture: timm's name of the trunk, one that every recipe takes.
        recipes: Methods; `multitask` is what the others are compared with beside random weights.
        train_tasks: Tasks whose training tiles are trained on; only supervised recipes see the labels.
        judged: Tasks that features are judged on, of other lineages.
        protocols: Of `histozoo evaluate`, on frozen features.
        seeds: Each is of one training of every method, and of one random twin.
        tiles: Work of each training: as many tiles, passed once through the trunk with supervised heads.
        px, pack_px, precision, shard, alpha, mean, std, max_grad_norm: As in an experiment.
        batch_size: Tiles of a step, of all processes together.
        warmup_steps: Of the supervised recipes; the others warm up for a share of their steps.
        evaluations: Points of a training's curve.
        lr: Recipe -> learning rate, where it is not that of its preset.
        resamples: Bootstrap resamples of each interval.
    """

    architecture: str
    recipes: tuple[str, ...]
    train_tasks: tuple[str, ...]
    judged: tuple[str, ...]
    protocols: tuple[str, ...] = ("logistic", "knn")
    seeds: tuple[int, ...] = (0, 1, 2)
    tiles: int = 100_000
    px: int = 96
    pack_px: int = 128
    batch_size: int = 128
    precision: str = "fp32"
    shard: bool = False
    alpha: float = 0.5
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)
    max_grad_norm: float = 3.0
    warmup_steps: int = 100
    evaluations: int = 4
    lr: dict[str, float] = field(default_factory=dict)
    resamples: int = 10_000


Settings = Multitask | Segmentation | Slides | Selection | Ladder
KINDS: dict[str, type[Settings]] = {
    "multitask": Multitask,
    "segmentation": Segmentation,
    "slides": Slides,
    "selection": Selection,
    "ladder": Ladder,
}
