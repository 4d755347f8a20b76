"""References built in parts that survive: what a shard holds, where it lies, and how all become one.

packed.py    byte strings of many lengths in one tensor
work.py      the folder of one piece of work, its key, its shards
merging.py   rows of all shards, sorted by predicted class, without all of them in memory
"""

from xaihub.shards.merging import Merged, merged
from xaihub.shards.packed import Gathered, Packed
from xaihub.shards.work import SHARD_ROWS, Embedded, Work, key_of

__all__ = ["SHARD_ROWS", "Embedded", "Gathered", "Merged", "Packed", "Work", "key_of", "merged"]
