"""Mixed batches over tasks: every slot draws a task, then a tile of it, as a pure function of (seed, global sample index).

Because sample `i` depends on nothing but the seed and `i`, a killed run resumes bit-identically, the number of loader workers does not
matter, and several processes read disjoint parts of one sequence. The augmentation's randomness travels with the sample as a vector
of uniform numbers that `histozoo.data.views` turns into flips, crops and colours on the model's device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from histozoo.errors import UsageError

UNIFORMS = 16
"""Uniform numbers that a labelled view of a sample needs; `histozoo.data.views.SLOTS` says which is used for what."""


@dataclass(frozen=True, kw_only=True)
class TaskTiles:
    """Decoded tiles of one task.

    Args:
        tiles_NHWC: uint8, `[N, px, px, 3]`, RGB; may be a memory map.
        labels_N: int64, `[N]`, class indices.
        rows: The rows of `tiles_NHWC` that may be drawn (the training split).
    """

    tiles_NHWC: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    rows: NDArray[np.int64]


class MixedTiles(Dataset[dict[str, Any]]):
    """The endless mixed sequence of one run, cut to `samples`.

    A task is drawn with probability proportional to n^alpha, n its number of training tiles; `alpha = 0` is the uniform draw of Mormont et
    al. 2020 (JBHI 25(2):412-421, arXiv 2005.02561), section III-B. A tile is then drawn uniformly in the task, with replacement.

    Args:
        tasks: Task name -> its tiles. The order fixes the task index.
        seed: Run seed, at least 0.
        samples: Length of the sequence.
        alpha: Exponent of the task size, 0 (uniform over tasks) to 1 (uniform over tiles).
        uniforms: Uniform numbers of each sample.

    Raises:
        UsageError: `HZ-E36`, a task without training tiles.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskTiles],
        *,
        seed: int,
        samples: int,
        alpha: float = 0.0,
        uniforms: int = UNIFORMS,
    ) -> None:
        if empty := [name for name, t in tasks.items() if len(t.rows) == 0]:
            raise UsageError(
                "HZ-E36",
                "a task has no training tile",
                where=", ".join(empty),
                next_step="leave it out of `tasks` or change the split",
            )
        self.tasks, self.seed, self.samples, self.uniforms = tuple(tasks.values()), seed, samples, uniforms
        sizes_T = np.array([len(t.rows) for t in self.tasks], dtype=np.float64) ** alpha
        self._edges_T = np.cumsum(sizes_T / sizes_T.sum())

    def __len__(self) -> int:
        return self.samples

    def draw(self, index: int) -> tuple[int, int, NDArray[np.float32]]:
        """Returns (task index, row of that task, `uniforms` numbers in [0, 1)) of sample `index`."""
        # Philox is a counter-based generator: the key alone selects the stream, so no state is carried from sample to sample.
        random = np.random.Generator(np.random.Philox(key=np.array([self.seed, index], dtype=np.uint64)))
        task = min(int(np.searchsorted(self._edges_T, random.random(), side="right")), len(self.tasks) - 1)
        rows = self.tasks[task].rows
        return task, int(rows[random.integers(len(rows))]), random.random(self.uniforms, dtype=np.float32)

    def __getitem__(self, index: int) -> dict[str, Any]:
        task, row, u_P = self.draw(index)
        source = self.tasks[task]
        return {
            "tiles": torch.from_numpy(np.array(source.tiles_NHWC[row])),
            "task": task,
            "label": int(source.labels_N[row]),
            "u": torch.from_numpy(u_P),
            "index": index,
        }
