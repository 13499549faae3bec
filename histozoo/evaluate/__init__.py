"""How good a model's features are: one file per protocol, one line per protocol in `PROTOCOLS`.

A protocol takes a model and labelled tiles and predicts tiles that no classifier of it was trained on;
statistics.py turns predictions into values with intervals, comparison.py sets a trained trunk beside random
ones, leave_out.py does so on tasks left out of the training.
"""

from __future__ import annotations

from histozoo.evaluate.feature_protocols import FEATURE_PROTOCOLS
from histozoo.evaluate.probe import feature_extraction
from histozoo.evaluate.protocol import FeatureProtocol, Protocol
from histozoo.evaluate.result import Result

PROTOCOLS: dict[str, Protocol] = {
    "feature_extraction": feature_extraction,
}

__all__ = ["FEATURE_PROTOCOLS", "PROTOCOLS", "FeatureProtocol", "Protocol", "Result"]
