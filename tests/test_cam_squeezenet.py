"""CAM of a trained network whose classifier is a convolution: SqueezeNet; skipped where its weights are not here."""

from pathlib import Path

import numpy as np
import pytest
from toy_networks import lion

from xaihub.images import open_picture
from xaihub.loading import load_classifier
from xaihub.methods import METHODS, Query

MODEL = Path(__file__).parents[2] / "shared" / "models" / "squeezenet1_0_deepcompression"
pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason="the pretrained weights in ../shared are not here")


@pytest.fixture(scope="module")
def lion_seen():
    return Query(load_classifier(str(MODEL)), open_picture(lion()))


@pytest.mark.parametrize("target", [291, 282, 0], ids=["lion", "tiger cat", "tench"])
def test_squeezenets_cam_is_its_grad_cam_up_to_scale(lion_seen, target):
    """291 is what the picture shows, 0 is active at a twentieth of the places: the weights are the same for both."""
    query = lion_seen.about(target=target)
    exact, gradient = (METHODS[name].run(query)[0].raw for name in ("cam", "gradcam"))
    scale = (exact * gradient).sum() / (gradient * gradient).sum()
    assert scale > 0
    np.testing.assert_allclose(exact, scale * gradient, atol=1e-4 * np.abs(exact).max())


def test_squeezenets_logit_is_the_mean_of_its_cams_positive_part(lion_seen):
    """It sets what a place says against a class to zero before it takes the mean; its biases are next to nothing."""
    raw = METHODS["cam"].run(lion_seen)[0].raw
    assert lion_seen.prediction.label == "lion, king of beasts, Panthera leo"
    assert raw.clip(0).mean() == pytest.approx(float(lion_seen.logits[lion_seen.target]), rel=1e-3)
    weights = lion_seen.classifier.module.classifier[1].weight[291, :, 0, 0].detach().numpy()
    expected = np.tensordot(weights, lion_seen.activations.numpy(), 1)  # eq. 2 of Zhou et al., 2016
    np.testing.assert_allclose(raw, expected, rtol=1e-3, atol=1e-3)
