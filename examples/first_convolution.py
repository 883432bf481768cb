"""What a submanifold convolution does, site by site, beside torch's dense one."""

import torch

import sparseconv as sc


def main() -> None:
    # an L of four active sites in one scan: batch, x, y, z
    coords = torch.tensor(
        [[0, 0, 0, 0], [0, 1, 0, 0], [0, 2, 0, 0], [0, 2, 1, 0]], dtype=torch.int32
    )
    features = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    x = sc.SparseTensor(coords, features, spatial_shape=(4, 3, 2), batch_size=1)
    print(x)

    layer = sc.nn.SubMConv3d(1, 1, kernel_size=3, bias=False)
    torch.nn.init.ones_(layer.weight)
    y = layer(x)
    print("\nwith a kernel of ones each site sums its active neighbours and itself:")
    for site, before, after in zip(
        coords.tolist(), features.flatten().tolist(), y.features.flatten().tolist(), strict=True
    ):
        print(f"  site {tuple(site[1:])}: {before:g} -> {after:g}")

    book = x.topology.rulebook(x.level, x.level, layer.geometry)
    print(f"\nthe rulebook: {len(book)} pairs of (input row, output row) over {book.taps} taps")
    taps = book.tap_of_pair.tolist()
    for tap, i, o in zip(taps, book.in_rows.tolist(), book.out_rows.tolist(), strict=True):
        offset = layer.geometry.offsets[3 * tap : 3 * tap + 3]
        print(f"  tap {tap:2d} {offset!s:>12}: row {i} -> row {o}")

    dense = torch.nn.functional.conv3d(x.dense(), layer.weight, padding="same")
    gap = (dense[0, 0, coords[:, 1], coords[:, 2], coords[:, 3]] - y.features[:, 0]).abs().max()
    print(f"\nlargest difference from torch's dense convolution at the sites: {gap:g}")
    outside = int((dense != 0).sum()) - len(y)
    print(f"the dense one also fills {outside} empty cells; a submanifold one never does")

    strided = sc.nn.SparseConv3d(1, 1, kernel_size=2, stride=2)
    print(f"\nkernel 2, stride 2 halves the lattice: {strided(x)}")


if __name__ == "__main__":
    main()
