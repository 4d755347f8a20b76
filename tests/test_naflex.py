"""SigLIP 2 is given patches of a picture's own proportions; here its answers are those of the library's own call."""

import torch
from tiny_models import LABELS, assert_right_way_up, layer_of, lively, picture, push

from xaihub import explain, load_classifier
from xaihub.families.naflex import Naflex, unpatched

VISION = {
    "patch_size": 16, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "num_patches": 16,
}  # fmt: skip
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 10,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip


def network_and_processor():
    from transformers import Siglip2Config, Siglip2ForImageClassification
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    torch.manual_seed(0)
    config = Siglip2Config(vision_config=VISION, text_config=TEXT, id2label=LABELS)
    return lively(Siglip2ForImageClassification(config)), Siglip2ImageProcessorPil(patch_size=16, max_num_patches=22)


def test_pixels_give_the_answer_that_the_padded_and_masked_patches_give():
    network, processor = network_and_processor()
    processed = processor(images=picture(100, 80), return_tensors="pt")
    assert not processed["pixel_attention_mask"].all(), "else nothing was filled up"

    pixels = unpatched(processed)

    assert pixels.shape == (3, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(Naflex(network)(pixels[None]).logits, network(**processed).logits)


def test_a_naflex_classifier_is_loaded_and_explained_at_each_pictures_own_proportions(hub):
    network, processor = network_and_processor()
    push(hub, "alice/tiny", network, processor)

    classifier = load_classifier("alice/tiny", token=False)

    assert layer_of(classifier) == ("network.vision_model.post_layernorm", "NLC", (4, 4), 0, "bottleneck")
    with torch.no_grad():
        expected = network(**processor(images=picture(), return_tensors="pt")).logits
    torch.testing.assert_close(classifier.logits(classifier.transform(picture())[None]), expected)
    assert explain(classifier, picture(), ["gradcam"])["gradcam"][0].raw.shape == (4, 5)
    assert_right_way_up(classifier)
