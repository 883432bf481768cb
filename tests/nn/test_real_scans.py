"""Real scans, where they are at hand: kernels against the reference, threads against one."""

import pytest
import torch

import sparseconv as sc
from sparseconv.testing.tolerances import tolerance

SCANS = {
    "kitti/004139.bin": 0.3,
    "open3d/fragment.pcd": 0.05,
}


@pytest.mark.parametrize("name", SCANS)
def test_kernels_reference_and_threads_agree(realdata, name):
    path = realdata / name
    if not path.exists():
        pytest.skip(f"{name} is not among the real scans")
    x, to_voxel = sc.voxelize(sc.io.read(path), SCANS[name])
    assert len(x) > 1000 and int(to_voxel.max()) == len(x) - 1
    features = torch.randn(len(x), 8)
    net = sc.nn.Sequential(
        sc.nn.SubMConv3d(8, 8, 3),
        sc.nn.SparseConv3d(8, 12, 3, 2, 1),
        sc.nn.SparseInverseConv3d(12, 4, 3),
    )

    def run(threads):
        torch.set_num_threads(threads)
        fresh = sc.SparseTensor(x.coords, features.clone().requires_grad_())
        net.zero_grad()
        y = net(fresh)
        y.features.square().sum().backward()
        return [
            y.coords,
            y.features.detach(),
            fresh.features.grad,
            *(p.grad for p in net.parameters()),
        ]

    one, two = run(1), run(2)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    with sc.use_backend("reference"):
        reference = run(1)
    assert torch.equal(one[0], reference[0])
    for a, b in zip(one[1:], reference[1:], strict=True):
        scale = b.abs().max()
        torch.testing.assert_close(a / scale, b / scale, **tolerance(torch.float32, "net"))
