"""Laws that hold for every layer whatever its weights, on sites drawn by hypothesis."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparseconv import nn
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing import laws
from sparseconv.testing.scenes import scene
from sparseconv.testing.tolerances import tolerance

CLOSE = tolerance(torch.float64, "formula")
WIDE = {"dtype": torch.float64}


def unbounded(name="random_sparse", channels=4):
    x = scene(name).tensor(channels)
    return laws.like(x, x.coords, x.features, spatial_shape=None)


def two_way():
    return nn.Sequential(
        nn.SparseConv3d(4, 4, 2, 2, **WIDE),
        nn.SubMConv3d(4, 4, 3, **WIDE),
        nn.SparseInverseConv3d(4, 4, 2, **WIDE),
    )


LAYERS = {
    "submanifold": lambda: nn.SubMConv3d(4, 3, 3, **WIDE),
    "even, dilated": lambda: nn.SubMConv3d(4, 4, (2, 3, 4), (1, 2, 1), groups=2, **WIDE),
    "regular": lambda: nn.SparseConv3d(4, 3, 3, padding=1, **WIDE),
    "strided": lambda: nn.SparseConv3d(4, 3, 3, 2, 1, **WIDE),
    "transposed": lambda: nn.SparseConvTranspose3d(4, 3, 2, 2, **WIDE),
    "generative": lambda: nn.SparseGenerativeConv3d(4, 3, 2, **WIDE),
    "down and back": two_way,
    "max pool": lambda: nn.MaxPool3d(2),
    "sum pool": lambda: nn.SumPool3d(3, 2, 1),
    "average pool": lambda: nn.AvgPool3d(2, 2),
    "pool and unpool": lambda: nn.Sequential(nn.MaxPool3d(2), nn.Unpool()),
    "features": lambda: nn.Sequential(
        torch.nn.Linear(4, 5, **WIDE), nn.GELU(), nn.LayerNorm(5, **WIDE)
    ),
}
# output voxels per input voxel
RATIO = {"strided": 0.5, "transposed": 2, "generative": 2, "max pool": 0.5, "sum pool": 0.5}
RATIO["average pool"] = 0.5


@pytest.fixture(params=LAYERS)
def named_layer(request):
    return request.param, LAYERS[request.param]()


@st.composite
def tensors(draw):
    """Up to 30 sites of up to 3 scans, some of them empty, near the origin."""
    axis = st.integers(-4, 4)
    sites = draw(st.lists(st.tuples(st.integers(0, 2), axis, axis, axis), max_size=30, unique=True))
    coords = torch.tensor(sites, dtype=torch.int32).reshape(-1, 4)
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    features = torch.randn(len(sites), 4, generator=rng, dtype=torch.float64)
    return SparseTensor(coords, features, None, 3)


def test_laws_on_named_scenes(backend, named_layer):
    name, layer = named_layer
    for view in ("random_sparse", "same_xyz", "negative", "empty_batch_item"):
        x = unbounded(view)
        laws.permutation(layer, x, **CLOSE)
        laws.isolation(layer, x)
        laws.batch_independence(layer, x.unbatch(), **CLOSE)
        for shift in ((2, -4, 6), (-100, 0, 2)):
            laws.translation(layer, x, shift, (RATIO.get(name, 1),) * 3, **CLOSE)


@pytest.mark.parametrize("name", LAYERS)
def test_laws_on_drawn_sites(name):
    layer = LAYERS[name]()

    @given(tensors(), st.tuples(*[st.integers(-3, 3)] * 3))
    def hold(x, shift):
        shift = tuple(2 * s for s in shift)
        laws.permutation(layer, x, **CLOSE)
        laws.batch_independence(layer, x.unbatch(), **CLOSE)
        laws.translation(layer, x, shift, (RATIO.get(name, 1),) * 3, **CLOSE)

    hold()


LINEAR = {
    "submanifold": lambda: nn.SubMConv3d(4, 3, 3, bias=False, **WIDE),
    "strided": lambda: nn.SparseConv3d(4, 3, 3, 2, 1, bias=False, groups=1, **WIDE),
    "transposed": lambda: nn.SparseConvTranspose3d(4, 3, 3, 2, 1, bias=False, **WIDE),
    "sum pool": lambda: nn.SumPool3d(2),
    "average pool": lambda: nn.AvgPool3d(2),
    "kernel average pool": lambda: nn.AvgPool3d(3, 2, 1, count="kernel"),
}


@pytest.mark.parametrize("name", LINEAR)
def test_layers_without_bias_are_linear(backend, name):
    laws.linearity(LINEAR[name](), unbounded(), **CLOSE)


@pytest.mark.parametrize("geometry", [(2, 2), (3, 2), (3, 1), ((1, 2, 3), (3, 2, 1))], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", ["random_sparse", "negative", "int32_limits", "surface"])
def test_inverse_with_the_same_weight_is_the_adjoint(backend, name, geometry, groups):
    if name == "int32_limits" and geometry not in ((2, 2), (3, 2)):
        pytest.skip("this convolution grows beyond int32 and is refused")
    down = nn.SparseConv3d(4, 6, *geometry, groups=groups, bias=False, **WIDE)
    up = nn.SparseInverseConv3d(6, 4, geometry[0], groups=groups, bias=False, **WIDE)
    up.load_state_dict(down.state_dict())
    laws.adjoint(down, up, scene(name).tensor(4), **CLOSE)


@pytest.mark.parametrize("geometry", [(2, 2, 0), (3, 2, 1), (3, 1, 1)], ids=str)
def test_transposed_onto_the_first_sites_is_the_adjoint(backend, geometry):
    x = unbounded()
    down = nn.SparseConv3d(4, 6, *geometry, bias=False, **WIDE)
    up = nn.SparseConvTranspose3d(6, 4, *geometry, bias=False, **WIDE)
    up.load_state_dict(down.state_dict())
    laws.adjoint(down, lambda y: up(y, sites=x), x, **CLOSE)


def test_submanifold_adjoint_is_the_flipped_kernel(backend):
    forward = nn.SubMConv3d(4, 6, 3, bias=False, **WIDE)
    back = nn.SubMConv3d(6, 4, 3, bias=False, **WIDE)
    with torch.no_grad():
        back.weight.copy_(forward.weight.flip(2, 3, 4).transpose(0, 1))
    laws.adjoint(forward, back, unbounded(), **CLOSE)


def test_degenerate_kernels_are_linear_layers(backend):
    x = unbounded()
    one = nn.SubMConv3d(4, 3, 1, **WIDE)
    flat = torch.nn.functional.linear(x.features, one.weight[:, :, 0, 0, 0], one.bias)
    torch.testing.assert_close(one(x).features, flat, **CLOSE)
    # without neighbours only the centre tap is left
    lonely = torch.tensor([[0, 0, 0, 0], [0, 9, 0, 0], [1, 0, 0, 0]], dtype=torch.int32)
    y = SparseTensor(lonely, x.features[:3])
    three = nn.SubMConv3d(4, 3, 3, **WIDE)
    centre = torch.nn.functional.linear(y.features, three.weight[:, :, 1, 1, 1], three.bias)
    torch.testing.assert_close(three(y).features, centre, **CLOSE)
