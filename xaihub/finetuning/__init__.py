"""A pretrained network made to tell other classes apart, in runs that can be killed and go on.

settings.py      how, with a reason for each default
pixel_store.py   the pictures as bytes, in memory as far as there is room
augmentation.py  how they are varied: nothing that erases or creates traces of their making
probing.py       the new head alone, a convex problem
fitting.py       everything, epoch by epoch, and in folds
checkpoints.py   what an epoch leaves for the next process
examples.py      six explained pictures for the card
runs.py          from a dataset and a backbone to a classifier's folder
"""

from xaihub.finetuning.runs import MARK, forget, measured_in_words, train_classifier
from xaihub.finetuning.settings import FineTuning

__all__ = ["MARK", "FineTuning", "forget", "measured_in_words", "train_classifier"]
