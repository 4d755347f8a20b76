"""A pretrained network made to tell other classes apart, in runs that can be killed and go on.

settings.py      how, with a reason for each default
pixel_store.py   the pictures as bytes, in memory as far as there is room
augmentation.py  how they are varied: nothing that erases or creates traces of their making
trunk.py         the lower layers, which stay as they are: where they end, by measurement
inputs.py        what the trained layers are given of each picture, computed once and kept in a file
probing.py       the new head alone, a convex problem
folding.py       which pictures are held out together
fitting.py       the upper layers, epoch by epoch, and in folds
choosing.py      whether more is trained than the upper quarter, by unseen images
calibration.py   one temperature, in the head's own weights
checkpoints.py   what an epoch leaves for the next process
examples.py      six explained pictures for the card
runs.py          from a dataset and a backbone to a classifier's folder
"""

from xaihub.finetuning.runs import MARK, forget, measured_in_words, train_classifier
from xaihub.finetuning.settings import FineTuning

__all__ = ["MARK", "FineTuning", "forget", "measured_in_words", "train_classifier"]
