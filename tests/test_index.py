"""Every index finds what plain loops find: its filters, its ties, its weights and its edges."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from xaihub.errors import ReferencesError
from xaihub.index import ExactIndex, FaissIndex, LanceIndex, Where, extras, rounding
from xaihub.index.rounding import OftenRead
from xaihub.index.scanning import candidates, scan, scan_weighted

WIDTH = 24


def clustered(rows: int, seed: int = 0, width: int = WIDTH, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    """Rows of length one near eight centres: neighbours that are near, unlike those of random rows."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(8, width, generator=generator)
    near = centres[torch.randint(0, 8, (rows,), generator=generator)] + 0.3 * torch.randn(
        rows, width, generator=generator
    )
    return torch.nn.functional.normalize(near, dim=1).to(dtype)


def classes_of(rows: int, classes: int = 4, seed: int = 0) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).integers(0, classes, rows))


def loops(vectors, predicted, query, k, where=None, weights=None):
    """The k nearest by the definition: float64, every row, then the order."""
    where = where or Where()
    weights = np.ones(vectors.shape[1]) if weights is None else weights.double().numpy()
    query, left_out = query.double().numpy() * weights, set(np.asarray(where.leave_out, dtype=int).tolist())
    found = []
    for row, vector in enumerate(vectors.double().numpy() * weights):
        if where.predicted not in (None, predicted[row]) or where.predicted_not == predicted[row] or row in left_out:
            continue
        lengths = np.sqrt((vector**2).sum()) * np.sqrt((query**2).sum())
        found.append((-np.float32((vector * query).sum() / lengths if lengths else 0.0), row))
    found = sorted(found)[:k]
    rows = [row for _, row in found] + [-1] * (k - len(found))
    return rows, [-value for value, _ in found] + [-np.inf] * (k - len(found))


def same(found, expected):
    rows, cosines = found
    assert rows.dtype == np.int64
    assert cosines.dtype == np.float32
    np.testing.assert_array_equal(rows, [row for row, _ in expected])
    np.testing.assert_allclose(cosines, [cosine for _, cosine in expected], atol=2e-7)


def often_read(vectors, predicted):
    """An exact index that rounds its rows from the second reading on, as large ones do."""
    index = ExactIndex(vectors, predicted)
    index._often_read = OftenRead(vectors.half(), block=max(150, len(vectors) // 4), often=1)
    return index


BUILDERS = {
    "exact": lambda vectors, predicted, folder: ExactIndex(vectors, predicted),
    "exact, often read": lambda vectors, predicted, folder: often_read(vectors, predicted),
    "faiss": lambda vectors, predicted, folder: FaissIndex.build(vectors, predicted, folder),
    # every list of every class is looked into, so FAISS itself must find all
    "faiss, inverted": lambda vectors, predicted, folder: FaissIndex.build(
        vectors, predicted, folder, flat_below=120, probes=1000
    ),
    "faiss, in memory": lambda vectors, predicted, folder: FaissIndex.build(
        vectors, predicted, flat_below=120, probes=99
    ),
    "lance": lambda vectors, predicted, folder: LanceIndex.build(vectors, predicted, folder),
}


@pytest.fixture(params=BUILDERS, scope="module")
def build(request, tmp_path_factory):
    if request.param.startswith("faiss"):
        pytest.importorskip("faiss")
    if request.param == "lance":
        pytest.importorskip("lancedb")

    def built(vectors, predicted):
        return BUILDERS[request.param](vectors, predicted, tmp_path_factory.mktemp("index") / "kept")

    return built


@pytest.fixture(scope="module")
def rows():
    vectors = clustered(600)
    vectors[50] = vectors[400]  # the same row in two classes: the lower one comes first
    vectors[7] = 0
    predicted = classes_of(600)
    predicted[predicted == 2] = 3  # a class without rows
    return vectors, predicted


@pytest.fixture(scope="module")
def index(build, rows):
    return build(*rows)


FILTERS = {
    "all": Where(),
    "one class": Where(predicted=1),
    "no such class": Where(predicted=2),
    "any other class": Where(predicted_not=1),
    "no row of an absent class": Where(predicted_not=77),
    "both": Where(predicted=0, predicted_not=0),
    "left out": Where(leave_out=[50, 400, 401, 3, 3]),
    "left out, some do not exist": Where(predicted=3, leave_out=np.array([-1, 400, 599, 600, 10**9])),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("where", FILTERS.values(), ids=FILTERS)
def test_an_index_finds_what_loops_find(index, rows, where, weighted):
    vectors, predicted = rows
    queries = 3.7 * torch.cat([clustered(2, seed=5).float(), vectors[[400]].float()])  # of any length
    weights = torch.linspace(-1, 2, WIDTH).round(decimals=1) if weighted else None

    found = index.search(queries, 5, where, weights=weights)

    same(found, [loops(vectors, predicted, query, 5, where, weights) for query in queries])
    assert len(index) == 600
    assert index.width == WIDTH


def test_many_queries_find_what_each_finds_alone(index, rows):
    queries = clustered(70, seed=6).float()  # more than are scanned together

    together = index.search(queries, 3, Where(predicted_not=0))

    for query in (0, 1, 63, 64, 69):
        alone = index.search(queries[query : query + 1], 3, Where(predicted_not=0))
        np.testing.assert_array_equal(together[0][query], alone[0][0])
        np.testing.assert_array_equal(together[1][query], alone[1][0])


def test_where_there_are_fewer_rows_the_places_stay_empty(index, rows):
    vectors, predicted = rows
    there = np.flatnonzero(predicted == 1)
    where = Where(predicted=1, leave_out=there[3:])

    for weights in (None, torch.ones(WIDTH)):
        found, cosines = index.search(vectors[:1].float(), 6, where, weights=weights)
        assert sorted(found[0, :3]) == there[:3].tolist()
        assert found[0, 3:].tolist() == [-1] * 3
        assert cosines[0, 3:].tolist() == [-np.inf] * 3
        nothing = index.search(vectors[:1].float(), 2, Where(predicted=1, leave_out=there), weights=weights)
        assert nothing[0].tolist() == [[-1, -1]]
    assert index.search(vectors[:0].float(), 2)[0].shape == (0, 2)
    assert index.search(vectors[:1].float(), 0)[0].shape == (1, 0)


def test_a_vector_of_length_zero_is_like_nothing_and_never_not_a_number(index, rows):
    zero, some = torch.zeros(1, WIDTH), rows[0][:1].float()
    weights = torch.zeros(WIDTH)
    weights[0] = 1e-9

    assert index.search(zero, 2, Where(predicted=1))[1].tolist() == [[0, 0]]
    assert index.search(some, 2, Where(predicted=1), weights=weights * 0)[1].tolist() == [[0, 0]]
    alone = index.search(some, 600, Where(), weights=weights)  # one number decides: alike, opposite, or row 7's zero
    assert set(np.unique(np.round(alone[1], 6)).tolist()) <= {-1, 0, 1}
    assert alone[1][0, alone[0][0] == 7].tolist() == [0]


def test_vectors_are_those_given_in_the_order_asked_for(index, rows):
    asked = [400, 3, 3, 599]

    torch.testing.assert_close(index.vectors(asked), rows[0][asked].float(), rtol=0, atol=0)
    assert index.vectors(np.array([], dtype=np.int64)).shape == (0, WIDTH)


def test_what_does_not_fit_is_refused(index):
    with pytest.raises(ValueError, match=r"takes queries \(Q, 24\)"):
        index.search(torch.zeros(WIDTH), 1)
    with pytest.raises(ValueError, match="not finite"):
        index.search(torch.full((1, WIDTH), torch.nan), 1)
    with pytest.raises(ValueError, match="one for each of the 24 numbers"):
        index.search(torch.zeros(1, WIDTH), 1, weights=torch.ones(3))


def test_float32_rows_are_found_and_kept_as_they_are(build):
    vectors, predicted = clustered(300, seed=2, dtype=torch.float32), classes_of(300)
    index = build(vectors, predicted)
    queries = clustered(3, seed=3).float()

    same(index.search(queries, 4), [loops(vectors, predicted, query, 4) for query in queries])
    torch.testing.assert_close(index.vectors([5]), vectors[[5]], rtol=0, atol=0)


def test_beyond_the_limit_a_weighted_search_looks_at_the_best_by_plain_cosine(index, rows):
    if isinstance(index, FaissIndex):
        exact = ExactIndex(*rows, weighed_exactly=10)
        index = replace(index, exact=exact)
    elif isinstance(index, LanceIndex):
        index = replace(index, weighed_exactly=10)
    else:
        index = ExactIndex(*rows, weighed_exactly=10)
    vectors, predicted = rows
    query, weights = clustered(1, seed=9).float(), torch.linspace(0, 3, WIDTH)
    near = loops(vectors, predicted, query[0], 50, Where(predicted=3))[0]
    others = np.setdiff1d(np.arange(600), near)
    expected = loops(vectors, predicted, query[0], 4, Where(predicted=3, leave_out=others), weights)

    same(index.search(query, 4, Where(predicted=3), weights=weights), [expected])


def test_random_searches_find_what_loops_find():
    for seed in range(40):
        draw = np.random.default_rng(seed)
        n, width = int(draw.integers(1, 400)), int(draw.integers(1, 70))
        dtype = torch.float16 if seed % 4 else torch.float32
        vectors, predicted = clustered(n, seed, width, dtype), classes_of(n, int(draw.integers(1, 6)), seed)
        vectors[draw.integers(0, n, n // 3)] = vectors[draw.integers(0, n)].clone()  # many equal rows
        queries = torch.from_numpy(draw.standard_normal((int(draw.integers(1, 8)), width))).float()
        k, out = int(draw.integers(1, 40)), draw.integers(-5, n + 5, int(draw.integers(0, 30)))
        where = [Where(leave_out=out), Where(0, None, out), Where(None, 1, out)][seed % 3]
        weights = torch.from_numpy(draw.standard_normal(width)).float() if seed % 2 else None

        expected = [loops(vectors, predicted, query, k, where, weights) for query in queries]
        for index in (ExactIndex(vectors, predicted), often_read(vectors, predicted)):
            for _ in range(3):
                same(index.search(queries, k, where, weights=weights), expected)


def test_rows_that_half_precision_cannot_tell_apart_are_found_in_their_true_order():
    generator = torch.Generator().manual_seed(0)
    query = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0)
    vectors = query.half().repeat(3000, 1)
    for row in range(3000):  # each differs from the query by its last bits in two places
        places = torch.randint(0, 64, (2,), generator=generator)
        vectors[row, places] = (vectors[row, places].float() * (1 + 0.001 * (row % 7 - 3))).half()
    predicted = np.zeros(3000, np.int64)

    for queries in (query[None], query.repeat(9, 1)):
        for index in (ExactIndex(vectors, predicted), often_read(vectors, predicted)):
            for _ in range(3):
                same(index.search(queries, 20), [loops(vectors, predicted, query, 20)] * len(queries))


@pytest.mark.parametrize("queries", [1, 9])
def test_no_score_is_further_off_than_its_bound(queries):
    for seed in range(5):
        vectors, units = clustered(4000, seed, 100), clustered(queries, seed + 50, 100, torch.float32).double()
        units = torch.nn.functional.normalize(units, dim=1)
        wide = torch.nn.functional.normalize(vectors.double(), dim=1)
        weights = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        weighted = torch.nn.functional.normalize(units * weights) @ torch.nn.functional.normalize(wide * weights).T

        for (scores, bounds), truth in (
            (scan(vectors, units), units @ wide.T),
            (scan_weighted(vectors, units, weights), weighted),
        ):
            assert ((scores.double() - truth).abs().amax(1) <= bounds).all()
            assert (bounds < 2e-3).all()


def test_no_rounded_score_is_further_off_than_its_bound():
    assert (
        rounding.product_of_numbers()
    )  # else this torch never rounds, and large indexes are slower than they are said
    for seed, width in enumerate((1, 3, 64, 100, 512, 777)):
        vectors = clustered(500, seed, width)
        vectors[5] = 0
        vectors[6] = (torch.arange(width) == width - 1).half()  # one number is all
        often = OftenRead(vectors, block=200, often=0)
        for query in torch.nn.functional.normalize(clustered(6, seed + 50, width).double(), dim=1):
            scores, bound = often._scores(30, 470, query)
            truth = torch.nn.functional.normalize(vectors[30:470].double(), dim=1) @ query
            assert float((scores.double() - truth).abs().max()) <= bound < 0.03
        assert len(often._blocks) == 3


@pytest.mark.parametrize("spread", [0.3, 0.01, 0.004, 0.0005])
@pytest.mark.parametrize("crowded", [0.04, 0.5])
def test_rows_that_whole_numbers_cannot_tell_apart_are_read_again(spread, crowded):
    centre = torch.randn(64, generator=torch.Generator().manual_seed(0))
    vectors = torch.randn(30_000, 64, generator=torch.Generator().manual_seed(1))
    crowd = int(crowded * len(vectors))
    vectors[-crowd:] = centre + spread * vectors[-crowd:]
    vectors, predicted = torch.nn.functional.normalize(vectors, dim=1).half(), np.zeros(len(vectors), np.int64)
    where = Where(leave_out=[len(vectors) - 1, len(vectors) - crowd + 1, 7])
    plain, often = ExactIndex(vectors, predicted), often_read(vectors, predicted)
    for _ in range(3):
        for query in (centre[None], vectors[[-2]].float()):
            found, expected = (index.search(query, 20, where) for index in (often, plain))
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_only_what_is_read_often_is_rounded_and_one_block_a_search(monkeypatch):
    vectors, query = clustered(1000), clustered(1, seed=3).double()[0]
    often, nothing = OftenRead(vectors, block=250, often=2), np.zeros(0, np.int64)
    made = []
    for _ in range(7):
        often.likely(200, 1000, query, 3, nothing)
        made.append(sorted(often._blocks))
    assert made == [[], [], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]

    monkeypatch.setattr(rounding, "product_of_numbers", lambda: False)
    without = OftenRead(vectors, block=250, often=0)
    assert set(without.likely(0, 1000, query, 3, nothing)) >= set(
        ExactIndex(vectors, np.zeros(1000, np.int64)).search(query[None], 3)[0][0]
    )
    assert not without._blocks


def test_a_torch_without_the_product_is_noticed(monkeypatch):
    rounding.product_of_numbers.cache_clear()
    monkeypatch.delattr(torch, "_weight_int8pack_mm")
    assert not rounding.product_of_numbers()
    monkeypatch.undo()
    rounding.product_of_numbers.cache_clear()
    assert rounding.product_of_numbers()


def test_candidates_hold_every_row_that_could_be_among_the_best():
    for seed in range(20):
        truth = torch.randn(1000, generator=torch.Generator().manual_seed(seed))
        off = 0.1 * (2 * torch.rand(1000, generator=torch.Generator().manual_seed(seed + 99)) - 1)

        found = candidates(truth + off, 7, 0.1)

        assert set(truth.topk(7).indices.tolist()) <= set(found.tolist())
        assert len(found) < 100


def test_rows_that_are_mapped_from_a_file_are_searched_where_they_lie(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    vectors, predicted = clustered(500), classes_of(500)
    save_file({"embeddings": vectors}, tmp_path / "rows.safetensors")
    with safe_open(tmp_path / "rows.safetensors", "pt") as file:
        index = ExactIndex(file.get_tensor("embeddings"), predicted)

    same(index.search(vectors[:2].float(), 3), [loops(vectors, predicted, query, 3) for query in vectors[:2]])


def test_searches_at_once_disturb_each_other_not(index):
    queries = clustered(8, seed=8).float()
    expected, found = index.search(queries, 5)[0], {}

    def search(number):
        found[number] = index.search(queries[number : number + 1], 5)[0][0]

    threads = [threading.Thread(target=search, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    np.testing.assert_array_equal([found[number] for number in range(8)], expected)


def test_rows_out_of_order_or_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="sorted by predicted class"):
        ExactIndex(clustered(3), np.array([0, 2, 1]))
    with pytest.raises(ValueError, match="float16 or float32"):
        ExactIndex(clustered(3).double(), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="with 2 classes"):
        ExactIndex(clustered(3), np.zeros(2, np.int64))


@pytest.mark.parametrize(
    ("kind", "library", "name"), [(FaissIndex, "faiss", "faiss"), (LanceIndex, "lancedb", "lance")]
)
def test_a_missing_extra_says_what_to_type(kind, library, name, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, library, None)

    with pytest.raises(ReferencesError, match=rf'pip install "xaihub\[{name}\]"'):
        kind.open(tmp_path)
    with pytest.raises(ReferencesError, match=rf'pip install "xaihub\[{name}\]"'):
        extras.extra(library, name)


def test_a_folder_without_an_index_says_so_and_others_folders_are_kept(tmp_path):
    pytest.importorskip("faiss")
    with pytest.raises(ReferencesError, match="holds no FAISS index"):
        FaissIndex.open(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        FaissIndex.build(clustered(9), np.zeros(9, np.int64), tmp_path)


def test_a_faiss_folder_whose_files_do_not_fit_together_is_refused(tmp_path):
    pytest.importorskip("faiss")
    folder = tmp_path / "kept"
    FaissIndex.build(clustered(300), np.repeat([0, 1], [200, 100]), folder, flat_below=50)
    assert {file.suffix for file in folder.iterdir()} == {".json", ".safetensors", ".faiss"}  # nothing to unpickle

    (folder / "class-0.faiss").write_bytes((folder / "class-1.faiss").read_bytes())
    with pytest.raises(ReferencesError, match="200 rows, and 100"):
        FaissIndex.open(folder)
    (folder / "index.json").write_text(json.dumps({"large": [5], "probes": 1}))
    with pytest.raises(ReferencesError, match=r"FaissIndex\.build"):
        FaissIndex.open(folder)


def test_lance_searches_by_codes_when_there_are_many_and_never_gives_too_few(tmp_path):
    pytest.importorskip("lancedb")
    vectors, predicted = clustered(2000), classes_of(2000, 40)
    index = LanceIndex.build(vectors, predicted, tmp_path / "kept", flat_below=1000)
    assert "vector" in str(index.table.list_indices())
    queries = clustered(5, seed=4).float()

    for where in (Where(), Where(predicted=3), Where(predicted_not=3)):
        rows, cosines = replace(index, probes=1).search(queries, 45, where)
        exact = ExactIndex(vectors, predicted).search(queries, 45, where)
        np.testing.assert_array_equal(rows < 0, exact[0] < 0)
        assert (cosines <= exact[1] + 1e-7).all()
        if where.predicted is not None:
            assert set(predicted[rows[rows >= 0]]) == {where.predicted}


def test_an_address_without_a_lance_index_says_so(tmp_path):
    pytest.importorskip("lancedb")
    with pytest.raises(ReferencesError, match="holds no LanceDB index"):
        LanceIndex.open(tmp_path)
    with pytest.raises(ReferencesError, match="holds no LanceDB index"):
        LanceIndex.open("nothing-like-this://there")
