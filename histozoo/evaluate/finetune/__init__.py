"""Fine-tuning as a measure of a trunk: a linear head, and the trunk trained with it in whole, in part or not at all.

settings.py says what decides a fit, fractions.py draws nested parts of the labels, recipe.py is what is trained, lora.py adds low-rank
updates, fit.py trains one learning rate on the engine's Trainer, store.py keeps what was found, run.py puts them together: learning rate
and step are chosen on the validation groups, the test groups are scored once.

After section 1.8 of R. Mormont et al. (2021), learning rate and epoch by validation, with a budget in steps and modes that it had not.
"""

from __future__ import annotations

from histozoo.evaluate.finetune.fractions import label_fraction
from histozoo.evaluate.finetune.settings import MODES, PRESETS, FinetuneSettings, Mode

__all__ = ["MODES", "PRESETS", "FinetuneSettings", "Mode", "label_fraction"]
