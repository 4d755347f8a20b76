"""What torch-cam would choose by itself, and whether that is right."""

from benchmarks.coverage.transformers_zoo import Size
from xaihub.classifier import Classifier
from xaihub.target_layer import everything_passes
from xaihub.tracing import trace


def torch_cam(classifier: Classifier, size: Size) -> dict[str, str]:
    """The `peer` fields of a row.

    A choice is right where the same can be proved of it as of ours, so that it need not be the same layer: it is a
    live map, channels first (torch-cam knows of no other layout), everything passes through it, and it lies in the
    second half of the network (the patch embedding of a transformer is a bottleneck, but shows colours and edges).
    """
    from torchcam.methods._utils import locate_candidate_layer

    try:
        name = locate_candidate_layer(classifier.module, (3, *size))
    except Exception as error:  # noqa: BLE001  whatever it raises is its answer
        return {"peer": f"{type(error).__name__}", "peer_right": "no"}
    ours = classifier.target_layer
    if not name or ours is None:
        return {"peer": name or "none", "peer_right": "no"}
    if name == ours.name:
        return {"peer": name, "peer_right": "yes" if ours.layout == "NCHW" else "no"}
    module, forward, pixels = classifier._tracing()
    traced = trace(module, forward, pixels)
    seen = next((seen for seen in traced.seen if name in seen.names), None)
    if seen is None or not seen.live or seen.view is None:
        return {"peer": name, "peer_right": "no"}
    if seen.view.layout != "NCHW" or seen.place < traced.seen[-1].place / 2:
        return {"peer": name, "peer_right": "no"}
    sound = everything_passes(module, forward, pixels, traced.target, [seen])
    return {"peer": name, "peer_right": "yes" if sound else "no"}
