"""Embeddings laid out in a plane, with a query among them; the only importer of umap-learn and scikit-learn.

Letters: R references, K channels. Every way gives (R, 2) points and, in the same plane, the query's.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xaihub.errors import ReferencesError, XaihubError
from xaihub.registry import Registry

__all__ = ["PROJECTIONS", "Plane", "Projection", "in_step", "pca", "project", "tsne", "umap"]

Vectors: TypeAlias = NDArray[np.floating]

NEIGHBOURS, PERPLEXITY = 15, 30.0  # the defaults of their libraries, for as many pictures as there mostly are
FEWEST = 6  # below this a neighbourhood is everything, and neither library has anything to lay out


@dataclass(frozen=True, eq=False)
class Plane:
    """Where each reference lies, and the query.

    Attributes:
        points: (R, 2).
        query: (2,), or None where none was asked for.
        shares: of the references' variance, what each axis holds; None where the axes mean nothing.
    """

    points: Vectors
    query: Vectors | None
    shares: tuple[float, float] | None = None


Lay = Callable[[Vectors, Vectors | None], Plane]


@dataclass(frozen=True)
class Projection:
    """One way to lay embeddings out.

    Attributes:
        title: as its authors write it.
        caution: what must not be read from it.
        module, package: what must be installed, as it is imported and as it is installed; or "".
    """

    name: str
    lay: Lay
    title: str
    caution: str
    module: str = ""
    package: str = ""

    @property
    def missing(self) -> str:
        """What to install before it can be used, in words, or ""."""
        if not self.module or find_spec(self.module):
            return ""
        return (
            f"{self.title} is computed by {self.package}, which is not installed here. Install it with"
            f" pip install 'xaihub[projections]' (or pip install {self.package}), then try again; PCA works without."
        )


PROJECTIONS: Registry[Projection] = Registry("projection")


def _projection(name: str, *, title: str, caution: str, module: str = "", package: str = "") -> Callable[[Lay], Lay]:
    def register(lay: Lay) -> Lay:
        PROJECTIONS.add(name, Projection(name, lay, title, caution, module, package))
        return lay

    return register


def project(name: str, embeddings: Vectors, query: Vectors | None = None) -> Plane:
    """The references (R, K) in a plane, and a query (K,) among them.

    Raises:
        UnknownNameError: there is no such projection.
        XaihubError: what computes it is not installed.
        ReferencesError: there are too few pictures for it.
    """
    entry = PROJECTIONS[name]
    if entry.missing:
        raise XaihubError(entry.missing)
    rows = np.asarray(embeddings, dtype=np.float64)
    return entry.lay(rows, None if query is None else np.asarray(query, dtype=np.float64))


@_projection(
    "pca",
    title="PCA",
    caution="It is a shadow of many dimensions: far apart here is far apart there, but near here may be far there.",
)
def pca(embeddings: Vectors, query: Vectors | None = None) -> Plane:
    """The first two principal components (Pearson, 1901) of the references; the query falls into the same plane.

    The largest entry of each component is made positive, which no decomposition fixes by itself.
    """
    middle = embeddings.mean(0)
    _, sizes, directions = np.linalg.svd(embeddings - middle, full_matrices=False)
    directions = _two_rows(directions)  # (2, K)
    largest = directions[[0, 1], np.abs(directions).argmax(1)]
    directions = directions * np.where(largest < 0, -1, 1)[:, None]
    variances = sizes**2
    held = _two_rows(variances[:, None])[:, 0] / max(float(variances.sum()), np.finfo(float).tiny)
    placed = None if query is None else (query - middle) @ directions.T
    return Plane((embeddings - middle) @ directions.T, placed, (float(held[0]), float(held[1])))


@_projection(
    "umap",
    title="UMAP",
    caution="Only who is whose neighbour can be read from it; distances between groups, and their sizes, mean nothing.",
    module="umap",
    package="umap-learn",
)
def umap(embeddings: Vectors, query: Vectors | None = None) -> Plane:
    """UMAP (McInnes et al., 2018) by the cosine, seeded; the query is laid among the references afterwards."""
    _enough(embeddings, "UMAP")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own about TensorFlow, and about few pictures
        from umap import UMAP

        near = min(NEIGHBOURS, len(embeddings) - 1)
        fitted = UMAP(n_neighbors=near, metric="cosine", random_state=0, n_jobs=1).fit(embeddings)
        placed = None if query is None else np.asarray(fitted.transform(query[None]))[0]
    return Plane(np.asarray(fitted.embedding_), placed)


@_projection(
    "t-sne",
    title="t-SNE",
    caution="Only who is whose neighbour can be read from it; distances between groups, and their sizes, mean nothing."
    " t-SNE cannot add a picture afterwards, so the query was laid out together with the others and moved them a"
    " little.",
    module="sklearn",
    package="scikit-learn",
)
def tsne(embeddings: Vectors, query: Vectors | None = None) -> Plane:
    """t-SNE (van der Maaten & Hinton, 2008) by the cosine, seeded; of references and query together."""
    _enough(embeddings, "t-SNE")
    from sklearn.manifold import TSNE

    rows = embeddings if query is None else np.concatenate([embeddings, query[None]])
    near = min(PERPLEXITY, (len(rows) - 1) / 3)
    laid = TSNE(2, perplexity=near, metric="cosine", init="pca", random_state=0).fit_transform(rows)
    return Plane(laid[: len(embeddings)], None if query is None else laid[-1])


def in_step(planes: list[Plane]) -> list[Plane]:
    """The same planes, each mirrored so that its axes run as those of the one before: layers can be leafed through.

    Mirroring changes no distance.
    """
    turned = planes[:1]
    for plane in planes[1:]:
        agree = (_centred(turned[-1].points) * _centred(plane.points)).sum(0)
        signs = np.where(agree < 0, -1, 1)
        query = None if plane.query is None else plane.query * signs
        turned.append(Plane(plane.points * signs, query, plane.shares))
    return turned


def _centred(points: Vectors) -> Vectors:
    return points - points.mean(0)


def _two_rows(rows: Vectors) -> Vectors:
    """The first two rows; zeros where there are fewer."""
    padded = np.zeros((2, rows.shape[1]))
    padded[: len(rows[:2])] = rows[:2]
    return padded


def _enough(embeddings: Vectors, title: str) -> None:
    if len(embeddings) < FEWEST:
        raise ReferencesError(
            f"{title} needs {FEWEST} pictures or more, but there are {len(embeddings)}. Take more references, or PCA."
        )
