"""Models and datasets that are known to work, offered before anything is typed."""

__all__ = ["CURATED_DATASETS", "CURATED_EMBEDDERS", "CURATED_MODELS", "STARTER"]

STARTER = "xaihub/paper-pets"  # comes with the package and needs no network

CURATED_MODELS: dict[str, str] = {
    STARTER: "drawn pets, built in",
    "microsoft/resnet-18": "ImageNet, 12 M",
    "microsoft/resnet-50": "ImageNet, 26 M",
    "google/vit-base-patch16-224": "ImageNet, 86 M",
    "facebook/deit-small-patch16-224": "ImageNet, 22 M",
    "facebook/convnext-tiny-224": "ImageNet, 29 M",
    "microsoft/swin-tiny-patch4-window7-224": "ImageNet, 28 M",
    "google/mobilenet_v2_1.0_224": "ImageNet, 3.5 M",
    "google/efficientnet-b0": "ImageNet, 5 M",
    "facebook/levit-128S": "ImageNet, 8 M",
    "timm/resnet18.a1_in1k": "ImageNet, 12 M, timm",
    "timm/mobilenetv3_small_100.lamb_in1k": "ImageNet, 2.5 M, timm",
    "torchvision/resnet18": "ImageNet, 12 M, torchvision",
    "torchvision/squeezenet1_0": "ImageNet, 1.2 M, torchvision",
    "nateraw/vit-age-classifier": "age groups, 86 M",
    "trpakov/vit-face-expression": "facial expressions, 86 M",
}

# what the reference box offers: dataset id -> which classifiers it suits
CURATED_DATASETS: dict[str, str] = {
    STARTER: "drawn pets, built in",
    "zh-plus/tiny-imagenet": "ImageNet classifiers",
    "microsoft/cats_vs_dogs": "cats and dogs",
    "AI-Lab-Makerere/beans": "bean leaves",
    "uoft-cs/cifar10": "CIFAR-10",
}

# whose eye may say what looks alike: each has safetensors and fits the usual limits of a host
CURATED_EMBEDDERS: dict[str, str] = {
    "facebook/dinov2-small": "DINOv2: shapes and parts, 88 MB",
    "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M": "CLIP, distilled: what is shown, reads words, 94 MB",
    # main has pickles only; this is the Hub's own conversion of them
    "openai/clip-vit-base-patch32@refs/pr/15": "CLIP: what is shown, reads words, 605 MB",
}
