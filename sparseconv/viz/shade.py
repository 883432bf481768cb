"""Shade a picture by its depth, so that shapes show where colours are flat."""

import numpy as np

# a logarithm of depth that lies behind everything, and still has differences
BACKGROUND = 1e6


def shade(
    image: np.ndarray,  # [height, width, 3]
    depth: np.ndarray,  # [height, width]
    *,
    strength: float = 90.0,
    reach: int = 2,
) -> np.ndarray:
    """Return the picture with pixels darkened that lie behind their neighbours.

    darkness = exp(-strength * mean over eight neighbours of max(0, step - slope)), where
    step = log2 z - log2 z_neighbour and slope = max(0, log2 z_opposite - log2 z)

    Args:
        image: uint8 [height, width, 3].
        depth: distance along the line of sight, float [height, width], inf for background.
        strength: how dark, without unit.
        reach: distance of the neighbours, pixels.

    Returns:
        uint8 [height, width, 3].

    Source: eye-dome lighting, C. Boucheny, "Visualisation scientifique de grands volumes de
        donnees", 2009; here the background does not darken, a plane does not darken however it
        is turned, and each neighbour counts for at most a fiftieth, so that outlines stay thin.
    """
    seen = np.isfinite(depth)
    log = np.full(depth.shape, BACKGROUND, dtype=np.float32)
    log[seen] = np.log2(np.maximum(depth[seen], 1e-12))
    padded = np.pad(log, reach, constant_values=BACKGROUND)
    height, width = depth.shape
    behind = np.zeros(depth.shape, dtype=np.float32)
    for down in (-reach, 0, reach):
        for across in (-reach, 0, reach):
            if not (down or across):
                continue
            nearer = log - padded[reach + down :, reach + across :][:height, :width]
            slope = padded[reach - down :, reach - across :][:height, :width] - log
            behind += np.clip(nearer - np.maximum(slope, 0), 0, 0.02)
    dark = np.where(seen, np.exp(-strength * behind / 8), 1.0)
    return np.rint(image * dark[..., None]).astype(np.uint8)
