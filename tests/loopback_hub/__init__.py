"""A Hugging Face Hub on 127.0.0.1, so that the real client libraries can be tested without a network.

It keeps everything in memory and speaks the part of the Hub's HTTP contract that huggingface_hub, transformers,
datasets and timm use. Xet storage is left out: set ``HF_HUB_DISABLE_XET=1``.

    store.py    repositories: files, commits, branches, tags
    cards.py    what the Hub says of a repository: tags, task, library, parameters
    server.py   HTTP itself: requests, answers, errors, routes, injected faults
    repos.py    the endpoints about accounts and repositories
    files.py    the endpoints about files: trees, commits, uploads, downloads
    spaces.py   the variables and secrets of Spaces
    hub.py      LoopbackHub: who may do what, and the Python API
"""

from .hub import LoopbackHub
from .server import Fault, Seen

__all__ = ["Fault", "LoopbackHub", "Seen"]
