"""What kernels keep of a weight is what they would make of it, and is made again if it changes."""

import copy
import gc

import pytest
import torch

from sparseconv import nn
from sparseconv.backends import kept_weights
from sparseconv.backends.kept_weights import keep_weight, kept
from sparseconv.nn.fuse import fuse
from sparseconv.tensor.sparse_tensor import SparseTensor
from sparseconv.testing.scenes import room

_native = pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")


@pytest.fixture(autouse=True)
def rounds_as_it_packs():
    """Kept are weights that are smaller so: in float32, for products of bfloat16 pairs."""
    if not _native.use_exchange(True):
        pytest.skip("this torch has no functions to read tensors by")
    if _native.isa() != "avx512bf16":
        pytest.skip(f"{_native.isa()} keeps none")


def run(layer, x):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return layer(x).features


def scan(count, channels, seed=0):
    coords = room(count, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return SparseTensor(coords, torch.randn(len(coords), channels, generator=generator))


def twins(make):
    """Return a layer whose weight is kept, and the same without."""
    torch.manual_seed(0)
    layer = make()
    twin = copy.deepcopy(layer)
    assert keep_weight(layer.weight)
    return layer, twin


LAYERS = {
    "submanifold": lambda: nn.SubMConv3d(40, 72, 3),
    "odd": lambda: nn.SubMConv3d(33, 49, 3, bias=False),
    "grouped": lambda: nn.SubMConv3d(32, 64, 3, groups=2),
    "strided": lambda: nn.SparseConv3d(32, 130, 2, stride=2),
    "transposed": lambda: nn.SparseConvTranspose3d(32, 64, 2, 2),
    "linear": lambda: nn.Linear(32, 96),
}


def channels_of(layer):
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


@pytest.mark.parametrize("count", [600, 3000], ids=["few rows", "many rows"])
@pytest.mark.parametrize("name", LAYERS)
def test_bits_are_the_same_again_and_again(name, count):
    layer, twin = twins(LAYERS[name])
    x = scan(count, channels_of(layer))
    for _ in range(3):
        assert torch.equal(run(layer, x), run(twin, x))
    numbers = layer.weight.numel()
    # rows of channels in pairs, columns in vectors of 16
    assert numbers * 2 <= kept(layer.weight).bytes <= numbers * 4


def test_scans_of_other_sizes_and_other_threads_take_turns():
    layer, twin = twins(LAYERS["submanifold"])
    threads = torch.get_num_threads()
    try:
        for count in (600, 3000, 500, 1):
            for used in (1, 2, 3):
                torch.set_num_threads(used)
                x = scan(count, 40)
                assert torch.equal(run(layer, x), run(twin, x))
    finally:
        torch.set_num_threads(threads)


def test_other_instruction_sets_pack_for_themselves():
    layer, twin = twins(LAYERS["submanifold"])
    x, usual = scan(600, 40), _native.isa()
    try:
        for name in (*_native.available_isas(), *_native.available_isas()):
            _native.set_isa(name)
            assert torch.equal(run(layer, x), run(twin, x)), name
    finally:
        _native.set_isa(usual)


def times(layer):
    with torch.no_grad():
        layer.weight.mul_(-2)


def stepped(layer):
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.SGD([layer.weight], lr=1.0).step()
    layer.weight.grad = None


def loaded(layer):
    layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()})


def exchanged(layer):
    layer.weight = torch.nn.Parameter(layer.weight.detach() * 3)


def given_other_data(layer):
    layer.weight.data = layer.weight.detach() * 3


def there_and_back(layer):
    layer.double().float()
    with torch.no_grad():
        layer.weight.add_(1)


@pytest.mark.parametrize(
    "change", [times, stepped, loaded, exchanged, given_other_data, there_and_back]
)
def test_a_changed_weight_is_seen(change):
    layer, _ = twins(LAYERS["submanifold"])
    x = scan(600, 40)
    before = run(layer, x)
    change(layer)
    twin = copy.deepcopy(layer)
    assert kept(twin.weight) is None
    found = run(layer, x)
    assert not torch.equal(found, before)
    assert torch.equal(found, run(twin, x))
    assert torch.equal(run(layer, x), found)


def test_other_dtypes_and_gradients_are_not_touched():
    layer, twin = twins(LAYERS["submanifold"])
    x = scan(600, 40)
    run(layer, x)
    made = kept(layer.weight).bytes
    with torch.no_grad():
        assert torch.equal(layer(x).features, twin(x).features)
    for each in (layer, twin):
        with torch.autocast("cpu", torch.bfloat16):
            each(x).features.float().square().sum().backward()
    assert torch.equal(layer.weight.grad, twin.weight.grad)
    assert torch.equal(run(layer, x), run(twin, x))
    assert kept(layer.weight).bytes == made


def test_it_ends_with_the_weight():
    gc.collect()
    before = len(kept_weights._KEPT)
    layer, _ = twins(LAYERS["submanifold"])
    assert len(kept_weights._KEPT) == before + 1
    run(layer, scan(600, 40))
    del layer
    gc.collect()
    assert len(kept_weights._KEPT) == before


def test_what_torch_does_not_count_the_changes_of_is_not_kept():
    with torch.inference_mode():
        layer = nn.SubMConv3d(4, 8, 3)
    assert not keep_weight(layer.weight)
    assert not keep_weight(nn.SubMConv3d(4, 8, 3, device="meta").weight)


def test_fused_layers_keep_theirs():
    net = nn.Sequential(nn.SubMConv3d(32, 32, 3), nn.BatchNorm(32), nn.ReLU(), nn.Linear(32, 8))
    fused = fuse(net.eval())
    x = scan(600, 32)
    first = run(fused, x)
    assert torch.equal(run(fused, x), first)
    assert torch.equal(run(copy.deepcopy(fused), x), first)
    for layer in (fused[0], fused[-1]):
        assert kept(layer.weight).bytes > 0
    assert all(kept(p) is None for p in net.parameters())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fused(x).features, first)
