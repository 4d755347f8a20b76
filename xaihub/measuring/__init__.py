"""How often a classifier is right, with intervals.

scoring.py     pure functions of labels and probabilities
asking.py      a classifier is shown pictures, and so is the black box of its prototypes
measuring.py   any classifier on any labelled pictures
runs.py        a split measured, and the figures put where they belong
"""

from xaihub.measuring.measuring import Measured, Trained, in_words, measure, metrics_of, write_json, write_measured
from xaihub.measuring.runs import MARK, describe, evaluate_classifier, prepare, write_file

__all__ = [
    "MARK",
    "Measured",
    "Trained",
    "describe",
    "evaluate_classifier",
    "in_words",
    "measure",
    "metrics_of",
    "prepare",
    "write_file",
    "write_json",
    "write_measured",
]
