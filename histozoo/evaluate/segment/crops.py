"""Random crops of pictures and masks, as pure functions of a seed and an index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from histozoo.evaluate.segment.pictures import Pictures


class Crops:
    """Random windows of pictures and masks, each a pure function of the seed and its index.

    Args:
        pictures: What to cut from; a picture smaller than the window is mirrored at its edges.
        px: Side of a window in pixels.
        seed: Key of the random numbers.
        samples: Length of the sequence.
    """

    def __init__(self, pictures: Pictures, *, px: int, seed: int, samples: int) -> None:
        self.px, self.seed, self.samples = px, seed, samples
        self.images = [mirrored(image, px) for image in pictures.images]
        self.masks = [mirrored((m > 0).astype(np.uint8) * 255, px) for m in pictures.masks]

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        from histozoo.data.mixing import UNIFORMS

        # Philox is counter-based: a killed run draws the same crops again, whatever came before them.
        random = np.random.Generator(np.random.Philox(key=np.array([self.seed, index], dtype=np.uint64)))
        row = int(random.integers(len(self.images)))
        height, width = self.masks[row].shape
        top, left = int(random.integers(height - self.px + 1)), int(random.integers(width - self.px + 1))
        window = np.s_[top : top + self.px, left : left + self.px]
        return {
            "tiles": torch.from_numpy(self.images[row][window].copy()),
            "mask": torch.from_numpy(self.masks[row][window].copy())[..., None],
            "u": torch.from_numpy(random.random(UNIFORMS, dtype=np.float32)),
            "index": index,
        }


def mirrored(array: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Returns `[H, W, ...]` with both sides at least `px`, what is missing mirrored at the right and lower edge."""
    missing = [(0, max(0, px - side)) for side in array.shape[:2]]
    return np.pad(array, missing + [(0, 0)] * (array.ndim - 2), mode="symmetric")
