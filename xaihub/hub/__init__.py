"""The Hugging Face Hub: what a repository holds, its files, and publishing. The only importer of huggingface_hub.

refusals.py      what the client raises, in sentences
repos.py         what is known of a repository
looking.py       what a repository holds, and which there are
remembering.py   what was seen of it before, for when the Hub does not answer
tensors.py       what its weights hold, by their headers
fetching.py      its files
room.py          room on the disk: which of them go again
cardfiles.py     cards: a head of YAML and a text
destination.py   whether a token may publish there, and what is there already
parcels.py       which files of a folder are published, and which of them differ
spaces.py        variables and secrets of a Space
publishing.py    a folder becomes a repository, in one commit
keeping.py       a folder that grows becomes a dataset, with a commit every few minutes
"""

from xaihub.hub.cardfiles import card_body, card_text, check_card, model_index
from xaihub.hub.destination import check_destination, may_write
from xaihub.hub.fetching import card_as_read, fetch, open_remote, own_file, read_json, refuse_large_files
from xaihub.hub.keeping import Keeper
from xaihub.hub.looking import clean_repo_id, is_repo_id, look, search_models
from xaihub.hub.parcels import planned
from xaihub.hub.publishing import publish
from xaihub.hub.refusals import RepoType, Token
from xaihub.hub.repos import Repo, page
from xaihub.hub.room import Disk, missing_bytes, repo_folder
from xaihub.hub.spaces import SpaceSettings, space_secret_names, space_variables
from xaihub.hub.tensors import tensor_headers

__all__ = [
    "Disk",
    "Keeper",
    "Repo",
    "RepoType",
    "SpaceSettings",
    "Token",
    "card_as_read",
    "card_body",
    "card_text",
    "check_card",
    "check_destination",
    "clean_repo_id",
    "fetch",
    "is_repo_id",
    "look",
    "may_write",
    "missing_bytes",
    "model_index",
    "open_remote",
    "own_file",
    "page",
    "planned",
    "publish",
    "read_json",
    "refuse_large_files",
    "repo_folder",
    "search_models",
    "space_secret_names",
    "space_variables",
    "tensor_headers",
]
