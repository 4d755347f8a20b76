"""Classifiers that answer by prototypes, made by one command: a head on a frozen network, or trained with the network.

settings.py   how, with a reason for each default; and the published way
starting.py   where prototypes start: at real patches, or anywhere
course.py     the epochs: alone on maps that are kept, or together with the network
watching.py   whether they collapse meanwhile
settling.py   projection onto patches, and the last layer
fitting.py    one training from its start to its end, in runs that can be killed and go on
runs.py       from a dataset and a classifier to a folder
"""

from xaihub.prototype_training.runs import MARK, train_prototypes
from xaihub.prototype_training.settings import PUBLISHED, PrototypeTraining

__all__ = ["MARK", "PUBLISHED", "PrototypeTraining", "train_prototypes"]
