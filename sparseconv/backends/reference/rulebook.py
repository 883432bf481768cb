"""The rulebook in plain torch: one look-up per tap and output site."""

import torch
from torch import Tensor

from sparseconv.backends.reference.coords import lookup

INT32 = torch.iinfo(torch.int32)


def rulebook(
    in_coords: Tensor,  # [N, 4] int32
    table: Tensor,  # opaque
    out_coords: Tensor,  # [M, 4] int32
    offsets: list[int],  # 3K
    stride: list[int],  # 3
    same_sites: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pair every output site with the input site each tap reads: `in = out * stride + offset`.

    Returns:
        in_rows int32 [P] and out_rows int32 [P], sorted by (tap, out row); segments int64 [K + 1],
        the pairs of tap t being `segments[t]:segments[t + 1]`.
    """
    del same_sites
    device = in_coords.device
    wide = out_coords.to(torch.int64)
    step = torch.tensor(stride, dtype=torch.int64, device=device)
    in_rows, out_rows = [], []
    counts = [torch.zeros(1, dtype=torch.int64, device=device)]
    for t in range(len(offsets) // 3):
        offset = torch.tensor(offsets[3 * t : 3 * t + 3], dtype=torch.int64, device=device)
        xyz = wide[:, 1:] * step + offset
        inside = ((xyz >= INT32.min) & (xyz <= INT32.max)).all(1)
        queries = torch.cat([wide[:, :1], torch.where(inside[:, None], xyz, 0)], 1)
        rows = torch.where(inside, lookup(in_coords, table, queries.to(torch.int32)), -1)
        hits = torch.nonzero(rows >= 0).squeeze(1)
        in_rows.append(rows[hits].to(torch.int32))
        out_rows.append(hits.to(torch.int32))
        counts.append(torch.full((1,), hits.shape[0], dtype=torch.int64, device=device))
    none = torch.zeros(0, dtype=torch.int32, device=device)
    segments = torch.cumsum(torch.cat(counts), 0)
    return torch.cat([none, *in_rows]), torch.cat([none, *out_rows]), segments
