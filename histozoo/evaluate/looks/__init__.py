"""Looks: what is measured of a frozen model beside how well a classifier on its features guesses.

| protocol           | asks                                                                                                    |
|--------------------|---------------------------------------------------------------------------------------------------------|
| `cuts`             | how much of the trunk is needed: size, operations and probe after every stage, and which door cuts there |
| `cka`              | how alike are the blocks of the first model and another one                                             |
| `invariance`       | how far do features move when pixels change in a way that is no biology                                 |
| `corruption`       | what does damage to the tiles cost a classifier that was fitted on clean ones                           |
| `robustness_index` | does the class or the centre decide which tiles lie near one another                                    |

One file each, a function from an encoder and a task to numbers; `LOOKS` names them, base.py says what they share.
"""

from __future__ import annotations

from histozoo.evaluate.looks.alike import alike
from histozoo.evaluate.looks.base import Look, Number, Setup
from histozoo.evaluate.looks.centres import centres
from histozoo.evaluate.looks.changed import changed
from histozoo.evaluate.looks.cut import cut
from histozoo.evaluate.looks.damaged import damaged

LOOKS: dict[str, Look] = {
    "cuts": cut,
    "cka": alike,
    "invariance": changed,
    "corruption": damaged,
    "robustness_index": centres,
}

__all__ = ["LOOKS", "Look", "Number", "Setup"]
