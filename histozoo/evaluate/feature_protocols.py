"""The protocols that measure features: one line each. Their modules bear the same names, so they are imported here, not in the package."""

from __future__ import annotations

from histozoo.evaluate.knn import knn
from histozoo.evaluate.linear_svm import linear_svm
from histozoo.evaluate.probe import logistic
from histozoo.evaluate.protocol import FeatureProtocol
from histozoo.evaluate.simpleshot import simpleshot

FEATURE_PROTOCOLS: dict[str, FeatureProtocol] = {
    "logistic": logistic,
    "linear_svm": linear_svm,
    "knn": knn,
    "simpleshot": simpleshot,
}
