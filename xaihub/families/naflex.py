"""SigLIP 2 at a picture's own proportions: it is given patches, and how many there are each way."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Naflex", "unpatched"]


class Naflex(nn.Module):
    """A classifier of patches (NaFlex, Tschannen et al., 2025, arXiv:2502.14786) as one of pixels (N, 3, H, W).

    Its processor fills up with empty patches and a mask that hides them; without these the answer is the same.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.config = network.config
        self.edge: int = network.config.vision_config.patch_size

    def forward(self, pixels: Tensor) -> Any:
        count, _, height, width = pixels.shape
        rows, columns = height // self.edge, width // self.edge
        patches = pixels.unflatten(3, (columns, self.edge)).unflatten(2, (rows, self.edge))
        return self.network(
            pixel_values=patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2),  # (N, h * w, edge * edge * 3)
            pixel_attention_mask=torch.ones(count, rows * columns, dtype=torch.int32, device=pixels.device),
            spatial_shapes=torch.tensor([[rows, columns]] * count, device=pixels.device),
        )


def unpatched(processed: Any) -> Tensor:
    """(3, H, W), the picture that the processor cut into patches, without those that it filled up with."""
    rows, columns = processed["spatial_shapes"][0].tolist()
    patches = processed["pixel_values"][0, : rows * columns]
    edge = round((patches.shape[1] // 3) ** 0.5)
    return patches.reshape(rows, columns, edge, edge, 3).permute(4, 0, 2, 1, 3).reshape(3, rows * edge, columns * edge)
