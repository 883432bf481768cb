"""What every family of the catalogue must do, whatever it computes."""

import copy
import io

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import sparseconv as sc
from sparseconv.functional.full_grid import from_full_grid
from sparseconv.nn.cost import PLACING, cost
from sparseconv.nn.families import families, family
from sparseconv.testing import laws
from sparseconv.testing.scenes import room, scene
from sparseconv.testing.tolerances import tolerance

CLOSE = tolerance(torch.float64, "formula")
TRACED, SAME = tolerance(torch.float32, "traced"), tolerance(torch.float64, "choice")
FAMILIES = {entry.key: entry for entry in families()}
WIDTH = 8


@pytest.fixture(params=FAMILIES)
def entry(request):
    return FAMILIES[request.param]


def layer_of(entry, shape=None, out_channels=WIDTH, dtype=torch.float64, stir=0.2):
    """Make a layer whose parameters are all at work: some families begin with zeros."""
    layer = entry.make(WIDTH, out_channels, shape).to(dtype)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p += stir * torch.randn(p.shape, generator=rng, dtype=torch.float64).to(dtype)
    return layer.eval()


def view(name, dtype=torch.float64):
    return scene(name).tensor(WIDTH, dtype)


def on(entry, x):
    """Return the lattice a layer is made for: those that know their place want its extent."""
    return None if entry.translation else x.spatial_shape


def test_the_catalogue_is_whole():
    entries = families()
    assert [e.number for e in entries] == list(range(1, 37))
    assert len({e.key for e in entries}) == 36
    for e in entries:
        for text in (e.title, e.paper, e.summary, e.formula, e.on_sparse, e.use_when):
            assert text.strip() == text and text
        assert issubclass(e.layer, torch.nn.Module) and family(e.key) is e
    with pytest.raises(ValueError, match="key: expected one of sparse, "):
        family("convolutional")


@pytest.mark.parametrize(
    "name", ["random_sparse", "one_voxel", "empty", "empty_batch_item", "full_cube"]
)
def test_sites_are_kept_and_results_finite(backend, entry, name):
    x = view(name)
    x.features.requires_grad_()
    for out_channels in (WIDTH, 2 * WIDTH, WIDTH // 2):
        layer = layer_of(entry, x.spatial_shape, out_channels)
        y = layer(x)
        assert y.coords is x.coords and y.shares_sites(x)
        assert y.features.shape == (len(x), out_channels) and y.dtype == x.dtype
        y.features.square().sum().backward()
        assert y.features.isfinite().all() and x.features.grad.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())
        if name == "random_sparse":
            still = [n for n, p in layer.named_parameters() if p.grad is None or not p.grad.any()]
            assert not still, "these parameters do nothing"


def test_laws(backend, entry):
    for name in ("random_sparse", "same_xyz", "empty_batch_item"):
        x = view(name)
        layer = layer_of(entry, on(entry, x))
        laws.permutation(layer, x, **CLOSE)
        laws.isolation(layer, x)
        laws.batch_independence(layer, x.unbatch(), **CLOSE)
        if entry.translation:
            step = entry.translation
            for shift in ((2 * step, -4 * step, 6 * step), (-99 * step, 0, step)):
                laws.translation(layer, x, shift, **CLOSE)


def test_gradients(backend, entry):
    # offsets between sites, so that no position is a site's own
    coords = torch.tensor([[0, 1, 1, 1], [0, 1, 2, 1], [0, 2, 1, 1], [0, 2, 2, 3], [1, 1, 1, 1]])
    x = sc.SparseTensor(coords.int(), torch.randn(5, WIDTH).double(), (4, 4, 4), 2)
    layer = layer_of(entry, (4, 4, 4))
    names = [n for n, p in layer.named_parameters() if p.requires_grad]
    given = [dict(layer.named_parameters())[n].detach().clone() for n in names]

    def run(features, *values):
        call = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, call, (x.replace(features=features),)).features

    leaves = [x.features, *given]
    for leaf in leaves:
        leaf.requires_grad_()
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_one_graph_for_scans_of_any_size(entry):
    torch._dynamo.reset()
    layer = layer_of(entry, (64, 64, 64) if not entry.translation else None, dtype=torch.float32)
    twin = copy.deepcopy(layer)
    counter = CompileCounterWithBackend("aot_eager")

    def run(coords, features):
        return twin(sc.SparseTensor(coords, features, (64, 64, 64), batch_size=1)).features

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend=counter)
    for size in (200, 333):
        coords = room(size, seed=size)
        coords[:, 1:] -= coords[:, 1:].amin(0)
        grads = []
        for call in (compiled, run):
            x = torch.randn(len(coords), WIDTH, generator=torch.Generator().manual_seed(2))
            x.requires_grad_()
            y = call(coords, x)
            y.square().mean().backward()
            grads.append((y.detach(), x.grad))
        for traced, eager in zip(*grads, strict=True):
            scale = float(eager.abs().max()) or 1.0
            torch.testing.assert_close(traced / scale, eager / scale, **TRACED)
    assert counter.frame_count == 1
    torch._dynamo.reset()


# weights are saved in the memory order of the kernels, of which torch warns for GPUs
@pytest.mark.filterwarnings("ignore:No complete tensor found")
def test_export_runs_at_another_size(entry):
    layer = layer_of(entry, (64, 64, 64) if not entry.translation else None, dtype=torch.float32)

    class OnTensors(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, coords, features):
            x = sc.SparseTensor(coords, features, (64, 64, 64), batch_size=1)
            return self.layer(x).features

    def scan(size):
        coords = room(size, seed=size)
        coords[:, 1:] -= coords[:, 1:].amin(0)
        return coords, torch.randn(len(coords), WIDTH)

    rows = torch.export.Dim("rows", min=2)
    with torch.no_grad():
        program = torch.export.export(
            OnTensors(), scan(100), dynamic_shapes=({0: rows}, {0: rows}), strict=False
        )
        stream = io.BytesIO()
        torch.export.save(program, stream)
        stream.seek(0)
        loaded = torch.export.load(stream).module()
        coords, features = scan(222)
        expected = OnTensors()(coords, features)
        torch.testing.assert_close(loaded(coords, features), expected, **TRACED)


def test_copies_and_state_dicts(entry):
    x = view("random_sparse")
    layer = layer_of(entry, x.spatial_shape)
    expected = layer(x).features
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    torch.testing.assert_close(twin(x).features, expected, **SAME)
    stream = io.BytesIO()
    torch.save(twin.state_dict(), stream)
    stream.seek(0)
    fresh = entry.make(WIDTH, WIDTH, x.spatial_shape).double().eval()
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    torch.testing.assert_close(fresh(x).features, expected, **SAME)


def test_dtypes(entry):
    x = view("random_sparse")
    layer = layer_of(entry, x.spatial_shape, stir=0.1)
    wide = layer(x).features.detach()
    single = layer.float()(x.replace(features=x.features.float())).features
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), wide, **tolerance(torch.float32, "formula"))
    features = x.features.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x.replace(features=features)).features
    half.float().square().sum().backward()
    assert features.grad.isfinite().all() and features.grad.any()
    scale = float(wide.abs().max())
    near = tolerance(torch.bfloat16, "formula")["rtol"]
    assert (half.detach().double() - wide).abs().max() < near * scale


def test_a_dense_tensor_is_a_full_grid(backend, entry):
    grid = torch.randn(2, WIDTH, 3, 4, 5, dtype=torch.float64)
    layer = layer_of(entry, (3, 4, 5))
    x = from_full_grid(grid)
    full, sparse = layer(grid), layer(x)
    assert full.shape == grid.shape
    rows = full.permute(0, 2, 3, 4, 1).reshape(-1, WIDTH)
    torch.testing.assert_close(rows, sparse.features, **CLOSE)


# numbers kept for gradients, in inputs of 64 channels: the rest of a step's twelve is theirs
KEPT, KEPT_BY = 6, {"dim": 11}


def test_little_is_kept_for_gradients(entry):
    if entry.key == "dense":
        pytest.skip("a grid is as large as it is")
    coords = room(3000)
    coords[:, 1:] -= coords[:, 1:].amin(0)
    extent = tuple((coords[:, 1:].amax(0) + 1).tolist())
    x = sc.SparseTensor(coords, torch.randn(len(coords), 64), extent, batch_size=1)
    layer = entry.make(64, 64, extent)
    own = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    x.features.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = layer(x)
    numbers = sum(storage.nbytes() for storage in kept.values()) / 4
    assert 0.9 < numbers / x.features.numel() <= KEPT_BY.get(entry.key, KEPT)
    assert y.features.requires_grad


def test_primitives_are_those_that_run(entry):
    x = view("random_sparse", torch.float32)
    with sc.use_backend("auto"):
        found = cost(layer_of(entry, x.spatial_shape, dtype=torch.float32), x)
    assert set(found.primitives) == set(entry.primitives) - PLACING
    assert found.parameters > 0


def test_in_a_u_net(entry):
    torch.manual_seed(0)
    x = scene("random_sparse").tensor(3, torch.float32)
    x = laws.like(x, x.coords - x.coords.new_tensor([0, *x.coords[:, 1:].amin(0)]), x.features)
    net = sc.models.MinkUNet(3, 4, (8, 8, 16, 16, 8), blocks=1, conv=entry.key)
    assert any(isinstance(m, entry.layer) for m in net.decode.modules())
    y = net(x)
    assert y.features.shape == (len(x), 4)
    torch.nn.functional.cross_entropy(y.features, torch.arange(len(x)) % 4).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
