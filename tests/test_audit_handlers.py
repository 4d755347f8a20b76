"""The Audit page without a browser: what an audit costs, who may ask it, and what its answer holds and says."""

import io
import re

import pytest
import torch
from tiny_models import TINY, TOKEN, build, picture, processor_of, push

from xaihub.errors import CancelledError, DatasetError, RepoNotFoundError, XaihubError
from xaihub.progress import silent
from xaihub.ui.desk import Desk
from xaihub.ui.desk_audit import AuditDesk, AuditQuestion
from xaihub.ui.downloads import audit_zip
from xaihub.ui.drawing_audit import explained_shown, report_shown
from xaihub.ui.settings import Settings

MODEL, DATASET = "alice/tiny-resnet", "alice/shapes"


def encoded(image, kind="PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def shapes(count=24):
    """Dogs as JPEG, cats as PNG; the first two pictures of each are in the split test as well."""
    kinds = {"dog": ("JPEG", "jpg"), "cat": ("PNG", "png")}
    files = {}
    for i in range(count):
        label = ("dog", "cat")[i % 2]
        kind, suffix = kinds[label]
        files[f"train/{label}/{i}.{suffix}"] = encoded(picture(80, 80, seed=i + 1), kind)
        if i < 4:
            files[f"test/{label}/{i}.{suffix}"] = files[f"train/{label}/{i}.{suffix}"]
    return files


@pytest.fixture(scope="module")
def published(module_hub):
    network = build(TINY["resnet"])
    with torch.no_grad():  # answers that differ from picture to picture
        pixels = torch.stack([
            processor_of(TINY["resnet"])(picture(80, 80, seed=i + 1), return_tensors="pt").pixel_values[0]
            for i in range(12)
        ])  # fmt: skip
        network.classifier[-1].bias -= network(pixel_values=pixels).logits.mean(0)
    push(module_hub, MODEL, network, processor_of(TINY["resnet"]))
    module_hub.add_files(DATASET, shapes(), repo_type="dataset")
    return module_hub


@pytest.fixture(scope="module")
def audits(published):
    return AuditDesk(Desk(Settings()))


@pytest.fixture(scope="module")
def audited(audits):
    """One audit, looked at by many tests."""
    told: list[float] = []
    (answer,) = audits.answer(AuditQuestion(MODEL, DATASET, 40), lambda share, stage: told.append(share))
    assert told == sorted(told)
    return answer


def test_a_dataset_of_the_hub_is_audited_as_its_files_are(audited):
    report = audited.report
    copies, stored = report.findings[:2]
    assert (copies.name, copies.severity) == ("copies", 1.0)  # all of the split test is in train as well
    assert report.copies.others == {"test": 4}
    assert len(report.copies.across) == 4
    assert stored.name == "format"
    assert stored.has == {"cat": "PNG (100%)", "dog": "JPEG (100%)"}
    assert len(report.cases) == 24


def test_the_page_shows_every_part_and_asks_about_pictures_by_their_keys(audited):
    html = report_shown(audited.report)
    for part in ("Verdict", "Findings", "Where it is wrong", "Accuracy by slice", "What each nuisance tells"):
        assert f'aria-label="{part}"' in html
    assert "File format: tells the label" in html
    keys = re.findall(r'class="xh-shot xh-ask" data-key="([^"]*)"', html)
    assert set(keys) <= {case.key for case in audited.report.cases}
    links = set(re.findall(r'href="#([^"]*)"', html))
    assert links
    assert links <= set(re.findall(r'id="([^"]*)"', html))


def test_a_picture_is_explained_with_its_twins_and_counterfactuals(audits, audited):
    case = audited.report.cases[0]
    first, second = audits.explained(audited, case.key, "", silent)
    assert first.explanation.prediction.label == case.answer
    shown = explained_shown(first, case.key, case.label, waiting=True)
    assert "are being looked for" in shown
    shown = explained_shown(second, case.key, case.label, waiting=False)
    assert f"labelled &#x27;{case.label}&#x27;" in shown
    for row in ("twins", "counterfactuals"):
        assert f'data-method="{row}"' in shown
    assert "Your picture. The frame" not in shown


def test_without_a_model_the_dataset_alone_is_audited(audits):
    (answer,) = audits.answer(AuditQuestion("", DATASET, 40), silent)
    assert answer.plan is None
    assert answer.report.findings[0].used == ""
    assert answer.report.turned == {}
    assert "xh-ask" not in report_shown(answer.report)
    with pytest.raises(XaihubError, match="without a classifier"):
        list(audits.explained(answer, "train/0", "", silent))


def test_a_key_from_elsewhere_opens_no_file(audits, audited):
    for key in ("/etc/passwd", "../secret.png", "", "train/99999"):
        with pytest.raises(XaihubError, match="has no picture"):
            list(audits.explained(audited, key, "", silent))


def test_a_private_dataset_is_asked_for_with_the_visitors_token_each_time(hub):
    hub.add_user("alice", token=TOKEN)
    hub.add_files("alice/secret", shapes(12), repo_type="dataset", private=True)
    audits = AuditDesk(Desk(Settings()))
    with pytest.raises(RepoNotFoundError):
        list(audits.answer(AuditQuestion("", "alice/secret", 40), silent))
    (answer,) = audits.answer(AuditQuestion("", "alice/secret", 40, TOKEN), silent)
    assert answer.report.count == 12
    assert TOKEN not in repr(answer)
    assert TOKEN not in repr(AuditQuestion("", "alice/secret", 40, TOKEN))
    with pytest.raises(RepoNotFoundError):
        list(audits.answer(AuditQuestion("", "alice/secret", 40), silent))


def test_a_folder_of_the_host_is_no_dataset_for_a_visitor(audits, tmp_path):
    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[i % 2] / f"{i}.png").write_bytes(encoded(picture(seed=i)))
    with pytest.raises(XaihubError):
        list(audits.answer(AuditQuestion("", str(tmp_path), 40), silent))


def test_one_label_is_refused_and_stop_ends_the_work(audits, published):
    published.add_files("alice/dogs", {"train/dog/0.png": encoded(picture())}, repo_type="dataset")
    with pytest.raises(DatasetError, match="cannot be audited"):
        list(audits.answer(AuditQuestion("", "alice/dogs", 40), silent))

    def stop(share: float, stage: str) -> None:
        if "Changing" in stage:
            raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        list(audits.answer(AuditQuestion(MODEL, DATASET, 40), stop))


def test_the_report_can_be_taken_along(audited, tmp_path):
    import zipfile

    with zipfile.ZipFile(audit_zip(audited, str(tmp_path))) as archive:
        assert sorted(archive.namelist()) == ["audit/audit.json", "audit/audit.md", "audit/report.html"]
        assert audited.report.verdict.split(":")[0] in archive.read("audit/report.html").decode()


def test_what_is_kept_of_an_audit_is_small(audited):
    held = sum(map(len, audited.report.thumbs.values()))
    assert 0 < held < 2 * 2**20
    assert all(isinstance(file, bytes) for file in audited.report.thumbs.values())
