"""Search for the nearest rows: exact by default, FAISS and LanceDB as extras; filters are exact in all of them.

ExactIndex   half precision rows, read once where they lie (also memory-mapped), the best scored again; no extra
FaissIndex   from some hundred thousand rows: one inverted file for each large class   pip install "xaihub[faiss]"
LanceIndex   beyond a million rows, on disk or where the rows stay on the Hub          pip install "xaihub[lance]"
"""

from xaihub.index.exact import ExactIndex
from xaihub.index.faiss_index import FaissIndex
from xaihub.index.lance_index import LanceIndex
from xaihub.index.places import VectorIndex, Where

__all__ = ["ExactIndex", "FaissIndex", "LanceIndex", "VectorIndex", "Where"]
