"""Embeddings in a plane: known answers, the query among them, and what is said where a library is missing."""

import importlib.util
import os
import sys

import numpy as np
import pytest

from xaihub import projections
from xaihub.errors import ReferencesError, UnknownNameError, XaihubError
from xaihub.projections import PROJECTIONS, Plane, in_step, project

GENERATOR = np.random.default_rng(0)
# two clouds in two directions
COMPILES = pytest.mark.skipif("XAIHUB_SLOW" not in os.environ, reason="UMAP compiles for long: set XAIHUB_SLOW=1")
ROWS = np.concatenate([GENERATOR.normal(size=(20, 12)) + 6 * axis for axis in np.eye(2, 12)]).astype(np.float32)


def test_pca_finds_the_long_axis_first_and_places_the_query_in_the_same_plane():
    rows = np.array([[0.0, 3.0, 5.0], [0.0, -3.0, 5.0], [1.0, 0.0, 5.0], [-1.0, 0.0, 5.0]])
    plane = project("pca", rows, np.array([2.0, 6.0, 9.0]))
    assert plane.points == pytest.approx(np.array([[3, 0], [-3, 0], [0, 1], [0, -1]]))
    assert plane.query == pytest.approx([6, 2])  # what lies off the plane is not seen
    assert plane.shares == pytest.approx((0.9, 0.1))


def test_pca_is_that_of_scikit_learn_up_to_signs_and_does_not_depend_on_them():
    decomposition = pytest.importorskip("sklearn.decomposition")
    plane = project("pca", ROWS)
    fitted = decomposition.PCA(2).fit(ROWS)
    assert np.abs(plane.points) == pytest.approx(np.abs(fitted.transform(ROWS)), abs=1e-4)
    assert plane.shares == pytest.approx(tuple(fitted.explained_variance_ratio_), rel=1e-4)
    assert project("pca", ROWS[::-1]).points[::-1] == pytest.approx(plane.points, abs=1e-5)
    assert plane.query is None


@pytest.mark.parametrize("rows", [np.ones((1, 4)), np.ones((3, 4)), np.array([[1.0], [2.0]])])
def test_pca_of_next_to_nothing_is_a_point_or_a_line(rows):
    plane = project("pca", rows, rows[0])
    assert plane.points.shape == (len(rows), 2)
    assert np.isfinite(plane.points).all()
    assert (plane.points[:, 1] == 0).all()
    assert plane.query == pytest.approx(plane.points[0])


def test_planes_are_mirrored_to_run_with_the_one_before():
    points = np.array([[0.0, 0.0], [2.0, 1.0], [4.0, 0.0]])
    mirrored = Plane(points * [-1, 1] + 7, np.array([-1.0, 5.0]), (0.6, 0.2))
    first, second = in_step([Plane(points, np.array([1.0, 5.0])), mirrored])
    assert (first.points == points).all()
    assert second.points - second.points[0] == pytest.approx(points)
    assert second.query - second.points[0] == pytest.approx([8, -2])
    assert second.shares == (0.6, 0.2)


@pytest.mark.parametrize(("name", "module"), [pytest.param("umap", "umap", marks=COMPILES), ("t-sne", "sklearn")])
def test_neighbours_stay_neighbours_and_the_query_lies_among_its_own(name, module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    plane = project(name, ROWS, ROWS[3] + 0.01)
    again = project(name, ROWS, ROWS[3] + 0.01)
    assert (plane.points == again.points).all()
    near, far = plane.points[:20].mean(0), plane.points[20:].mean(0)
    spread = np.linalg.norm(plane.points[:20] - near, axis=1).mean()
    assert np.linalg.norm(near - far) > 2 * spread
    assert np.linalg.norm(plane.query - near) < np.linalg.norm(plane.query - far)
    assert plane.shares is None
    with pytest.raises(ReferencesError, match="needs 6 pictures or more, but there are 5"):
        project(name, ROWS[:5])


def test_a_library_that_is_not_installed_is_named_with_what_to_type(monkeypatch):
    monkeypatch.setattr(projections, "find_spec", lambda name: None)
    with pytest.raises(
        XaihubError, match=r"umap-learn, which is not installed here.*pip install 'xaihub\[projections\]'"
    ):
        project("umap", ROWS)
    with pytest.raises(XaihubError, match="scikit-learn"):
        project("t-sne", ROWS)
    assert project("pca", ROWS).points.shape == (40, 2)
    assert "umap" in PROJECTIONS


def test_an_unknown_projection_offers_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no projection called 'tsne'\. Did you mean 't-sne'\?"):
        project("tsne", ROWS)


def test_pca_needs_neither_library():
    import subprocess

    code = (
        "import sys, numpy as np; from xaihub.projections import project; project('pca', np.eye(9));"
        " print([name for name in ('umap', 'sklearn', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
