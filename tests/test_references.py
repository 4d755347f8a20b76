"""References: built, searched exactly, saved, published, and refused where they do not belong."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from toy_networks import ColourCounter, SmallNet, classifier_of

from xaihub.building import build_references
from xaihub.classifier import Classifier
from xaihub.datasets import from_pairs
from xaihub.errors import CancelledError, DatasetError, ReferencesError, ReferencesMismatchError
from xaihub.images import perceptual_hash, pixel_digest
from xaihub.references import ReferenceSet, load_references


def picture(seed: int) -> Image.Image:
    generator = np.random.default_rng(seed)
    colour = generator.integers(0, 256, 3)
    pixels = colour + generator.integers(-60, 60, (40, 40, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def pictures(count: int = 60):
    return from_pairs("colours", [(f"row {i}", ("red", "green", "blue")[i % 3], picture(i)) for i in range(count)])


@pytest.fixture(scope="module")
def classifier():
    return classifier_of(ColourCounter(0.01))


@pytest.fixture(scope="module")
def references(classifier):
    return build_references(classifier, pictures(), batch_size=16)


def test_every_row_holds_what_the_classifier_says_of_its_picture(classifier, references):
    assert len(references) == 60
    assert sorted(references.keys) == sorted(f"row {i}" for i in range(60))
    for row in (0, 17, 59):
        number = int(references.keys[row].split()[1])
        prediction = classifier.predict(picture(number))
        assert references.predicted[row] == prediction.index
        assert references.probability[row] == pytest.approx(prediction.probability, abs=1e-5)
        assert references.labels[row] == ("red", "green", "blue")[number % 3]
        seen = classifier.transform.view(picture(number)).image
        assert references.digests[row] == pixel_digest(seen)
        assert np.abs(np.asarray(references.picture(row), int) - np.asarray(seen, int)).mean() < 6  # JPEG of pure noise


def test_rows_of_a_predicted_class_lie_together(references):
    assert (np.diff(references.predicted) >= 0).all()
    assert len(references.slices) > 1, "else nothing below is a test"
    for label, rows in references.slices.items():
        assert (references.predicted[rows] == label).all()
        assert (references.predicted == label).sum() == rows.stop - rows.start


@pytest.mark.parametrize("k", [1, 3, 100])
def test_the_search_equals_a_plain_loop(references, k):
    query = torch.randn(references.embeddings.shape[1], generator=torch.Generator().manual_seed(1))
    cosines = [float(torch.dot(row, query) / row.norm() / query.norm()) for row in references.embeddings]
    some = int(references.predicted[0])
    for mask, options in [
        ([True] * 60, {}),
        ([c == some for c in references.predicted], {"predicted": some}),
        ([c != some for c in references.predicted], {"predicted_not": some}),
    ]:
        for out in ((), (0, 5, 41)):
            rows = sorted((i for i in range(60) if mask[i] and i not in out), key=lambda i: -cosines[i])[:k]
            found = references.nearest(query, k, leave_out=out, **options)
            assert [neighbour.row for neighbour in found] == rows
            assert [neighbour.similarity for neighbour in found] == pytest.approx([cosines[i] for i in rows], abs=1e-5)


def test_a_class_without_members_has_no_neighbours(references):
    assert references.nearest(references.embeddings[0], 3, predicted=99) == []


def test_the_picture_itself_and_near_copies_are_found(classifier, references):
    row = 11
    original = picture(int(references.keys[row].split()[1]))
    softened = original.resize((39, 39)).resize((40, 40), Image.Resampling.LANCZOS)
    from xaihub.methods import Query

    for image, expected in ((original, [row]), (picture(1000), [])):
        query = Query(classifier, image)
        seen = query.view.image
        found = references.duplicates(query.passed.embedding[0], pixel_digest(seen), perceptual_hash(seen))
        assert found.tolist() == expected
    assert softened.size == original.size


def test_a_folder_gives_back_what_was_saved(references, tmp_path):
    folder = references.save(tmp_path / "saved")
    again = load_references(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "embeddings.safetensors",
        "references.json",
        "rows.parquet",
    ]
    assert again.made == references.made
    assert (again.keys, again.labels, again.digests) == (references.keys, references.labels, references.digests)
    assert again.class_names == references.class_names
    assert torch.equal(again.embeddings, references.embeddings)
    assert torch.equal(again.logits, references.logits)
    np.testing.assert_array_equal(again.predicted, references.predicted)
    np.testing.assert_array_equal(again.hashes, references.hashes)
    assert again.picture(3).tobytes() == references.picture(3).tobytes()
    assert again.save(folder) == folder, "references may be replaced by references"


def test_a_changed_file_is_noticed(references, tmp_path):
    folder = references.save(tmp_path / "saved")
    with (folder / "rows.parquet").open("r+b") as file:
        file.seek(100)
        file.write(b"changed")
    with pytest.raises(ReferencesError, match=r"rows.parquet .* is not the file that its references.json describes"):
        load_references(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record.update(format=3), "of format 3; this version reads 1 and 2"),
        (lambda record: record.pop("made"), "holds no references that can be read"),
        (lambda record: record.update(rows=3), "different numbers of rows"),
        (lambda record: record["made"].update(evil=1), "does not say who made"),
        (lambda record: record.update(classes=["one"]), "its logits are"),
        (lambda record: record.update(rows=True), "or how many rows"),
        (lambda record: record["made"].update(classifier_revision=5), "its classifier_revision is '5'"),
        (lambda record: record["made"].update(dataset=["x"]), r"its dataset is \"\['x'\]\""),
        (lambda record: record["made"].update(skipped="7"), "its skipped is '7'"),
        (lambda record: record["made"].update(public=1), "its public is '1'"),
        (lambda record: record["made"].update(versions={"torch": 2}), "its versions"),
        (lambda record: record["made"].pop("dataset"), "does not say who made"),
        (lambda record: record["spaces"][0].update(revision="a" * 40), "gives a revision to 'contribution'"),
    ],
)
def test_a_description_that_does_not_fit_is_a_sentence(references, tmp_path, change, words):
    folder = references.save(tmp_path / "saved")
    record = json.loads((folder / "references.json").read_text())
    change(record)
    (folder / "references.json").write_text(json.dumps(record))
    with pytest.raises(ReferencesError, match=words):
        load_references(folder)


def test_a_folder_of_something_else_is_neither_read_nor_replaced(references, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds something else"):
        references.save(tmp_path)
    with pytest.raises(ReferencesError, match="holds no references"):
        load_references(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_references_of_another_classifier_are_refused_with_the_remedy(classifier, references):
    references.check(classifier)
    weaker = ColourCounter(0.01)
    with torch.no_grad():
        weaker.features.weight[0] *= 0.5
    for other in (
        replace(classifier, module=weaker, revision="b" * 40),
        replace(classifier, module=weaker, repo_id="somebody/else"),
        replace(classifier, labels=("red", "green", "violet")),
        replace(classifier, target_layer=replace(classifier.target_layer, name="other")),
    ):
        with pytest.raises(ReferencesMismatchError, match=r"embedded by .* build references for this"):
            references.check(other)
    references.check(replace(classifier, revision="b" * 40))  # the same weights at a commit that changed the card


def test_stopping_leaves_nothing_and_progress_is_told(classifier):
    told = []

    def stop(share, stage):
        told.append((share, stage))
        if len(told) == 2:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        build_references(classifier, pictures(), batch_size=8, progress=stop)
    assert [stage for _, stage in told] == ["Embedding picture 8 of 60", "Embedding picture 16 of 60"]
    assert not any(part._forward_hooks for part in classifier.module.modules())


def test_a_broken_picture_among_good_ones_is_skipped_and_counted(classifier):
    rows = pictures(9)
    rows.sources = [*rows.sources[:4], ("broken", "red", lambda: b"\x89PNG not really"), *rows.sources[4:]]
    built = build_references(classifier, rows)
    assert len(built) == 9
    assert built.made.skipped == 1
    assert "broken" not in built.keys


def test_a_picture_whose_answer_is_not_finite_is_skipped_with_a_sentence():
    def transform(image: Image.Image) -> torch.Tensor:
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
        return pixels * (1e38 if pixels.mean() > 0.99 else 1)

    overflowing = Classifier.from_module(SmallNet(), labels=["a", "b", "c"], transform=transform)
    rows = pictures(9)
    white = ("white", "red", lambda: Image.new("RGB", (40, 40), "white"))
    rows.sources = [*rows.sources[:4], white, *rows.sources[4:]]
    built = build_references(overflowing, rows, batch_size=4, embedder=["contribution", "target-layer"])
    assert len(built) == 9
    assert built.logits.isfinite().all()
    assert built.made.skipped == 1
    assert rows.skipped["white"].startswith("What the classifier or an embedder makes of it is not finite")
    assert built.fidelity["contribution"]["n"] == 9

    rows.sources = [white]
    with pytest.raises(DatasetError, match=r"None of the 1 pictures of colours could be read. .* is not finite"):
        build_references(overflowing, rows)


def test_pictures_that_keep_their_proportions_are_embedded_as_if_alone():
    def transform(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255

    classifier = Classifier.from_module(SmallNet(), labels=["a", "b", "c"], transform=transform)
    sizes = [(40, 40), (40, 40), (56, 40), (40, 40), (40, 64), (40, 64)]
    made = [(f"row {i}", "red", picture(i).resize(size)) for i, size in enumerate(sizes)]
    built = build_references(classifier, from_pairs("wide", made), batch_size=4, fidelity=False)
    for row, key in enumerate(built.keys):
        alone = classifier.logits(transform(made[int(key[4:])][2])[None])[0]
        assert torch.allclose(built.logits[row], alone, atol=1e-5)
        assert built.picture(row).size == sizes[int(key[4:])]


def test_a_dataset_without_a_readable_picture_is_a_sentence(classifier):
    rows = pictures(2)
    rows.sources = [("a", "red", lambda: b"no"), ("b", "red", lambda: b"picture")]
    with pytest.raises(DatasetError, match="None of the 2 pictures of colours could be read"):
        build_references(classifier, rows)


def test_published_references_come_back_by_id_and_show_in_the_viewer(references, hub):
    hub.add_user("alice", token="hf_alice")
    url = references.push_to_hub("alice/colours-references", token="hf_alice")
    assert url.endswith("datasets/alice/colours-references")
    assert hub.repo("alice/colours-references", "dataset").private

    again = load_references("alice/colours-references", token="hf_alice")
    assert again.keys == references.keys
    assert torch.equal(again.embeddings, references.embeddings)

    import datasets

    rows = datasets.load_dataset("alice/colours-references", split="train", token="hf_alice")
    assert rows[5]["image"].size == references.picture(5).size
    assert rows[5]["predicted"] == references.class_names[references.predicted[5]]


@pytest.mark.parametrize("first", [0, 1])
def test_colours_of_pictures_that_are_not_public_are_not_passed_on(classifier, tmp_path, first):
    names = ["contribution", "pixels"]
    rows = replace(pictures(12), public=False)
    private = build_references(classifier, rows, embedder=[names[first], names[1 - first]])
    private.save(tmp_path / "mine")
    assert set(load_references(tmp_path / "mine").spaces) == set(names), "one's own folder keeps them"

    (tmp_path / "draft").mkdir()
    private.save(tmp_path / "draft")
    private.write(tmp_path / "draft", named="alice/shown")
    assert sorted(path.name for path in (tmp_path / "draft").iterdir()) == [
        "README.md", "embeddings.safetensors", "references.json", "rows.parquet",
    ]  # fmt: skip
    shown = load_references(tmp_path / "draft")
    assert list(shown.spaces) == list(shown.fidelity) == ["contribution"]
    assert shown.made == replace(private.made, embedder="contribution")
    assert torch.equal(shown.space().vectors, private.spaces["contribution"].vectors)
    assert list(shown.pictures) == [None] * 12
    card = (tmp_path / "draft" / "README.md").read_text()
    assert "The embeddings by `pixels` are left out, too" in card

    alone = replace(private, spaces={"pixels": private.spaces["pixels"]})
    with pytest.raises(ReferencesError, match="from which small pictures could be drawn, and colours is not public"):
        alone.write(tmp_path / "draft", named="alice/shown")


def test_colours_of_public_pictures_are_passed_on(classifier, tmp_path):
    public = build_references(classifier, pictures(12), embedder=["contribution", "pixels"], fidelity=False)
    public.write(tmp_path, named="alice/shown")
    assert list(load_references(tmp_path).spaces) == ["contribution", "pixels"]
    assert "are left out" not in (tmp_path / "README.md").read_text()


def test_a_dataset_without_references_says_that_it_can_be_embedded(hub):
    hub.add_files("alice/plain", {"README.md": b"---\nlicense: mit\n---\n"}, repo_type="dataset")
    with pytest.raises(ReferencesError, match=r"is a dataset but holds no references .* can be embedded here instead"):
        load_references("alice/plain", token=False)


def test_every_record_is_frozen(references):
    assert isinstance(references, ReferenceSet)
    with pytest.raises(AttributeError):
        references.keys = ()
