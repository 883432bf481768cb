"""The library among torch's own tools: compile, export, checkpoints, copies, processes."""

import copy
import io
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import sparseconv as sc
from sparseconv.testing.scenes import room, scene
from sparseconv.testing.tolerances import tolerance

SIZES = (300, 900, 60, 1500)
NET = tolerance(torch.float32, "net")
GRAD_NET = tolerance(torch.float32, "grad_net")


class OnTensors(torch.nn.Module):
    """A U-Net from plain tensors to plain tensors."""

    def __init__(self, channels=(6, 8, 8, 8, 6)):
        super().__init__()
        self.net = sc.models.MinkUNet(3, 4, channels, blocks=1)

    def forward(self, coords, features):
        return self.net(sc.SparseTensor(coords, features, batch_size=1)).features


def scan(count):
    coords = room(count, seed=count)
    return coords, torch.randn(len(coords), 3)


@pytest.fixture
def net():
    torch._dynamo.reset()
    yield OnTensors()
    torch._dynamo.reset()


def test_one_graph_for_scenes_of_any_size(net):
    net.eval()
    counter = CompileCounter()
    compiled = torch.compile(copy.deepcopy(net), fullgraph=True, dynamic=True, backend=counter)
    for size in SIZES:
        coords, features = scan(size)
        expected = net(coords, features)
        torch.testing.assert_close(compiled(coords, features), expected, **NET)
    assert counter.frame_count == 1, "one graph, compiled once"


def test_compiled_training():
    torch._dynamo.reset()
    net = OnTensors((4, 6, 4))
    twin = copy.deepcopy(net)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(twin, fullgraph=True, dynamic=True, backend=counter)
    for size in SIZES[:3]:
        coords, features = scan(size)
        grads = []
        for module, run in ((net, net), (twin, compiled)):
            module.zero_grad()
            x = features.clone().requires_grad_()
            run(coords, x).square().mean().backward()
            grads.append([x.grad, *(p.grad for p in module.parameters())])
        for eager, traced in zip(*grads, strict=True):
            scale = float(eager.abs().max()) or 1.0
            torch.testing.assert_close(traced / scale, eager / scale, **GRAD_NET)
    assert counter.frame_count == 1
    for key, value in net.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[key], value, **NET)


def test_a_sparse_tensor_goes_in_and_comes_out_of_a_compiled_net():
    torch._dynamo.reset()
    net = OnTensors((4, 6, 4))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net.net.eval(), fullgraph=True, dynamic=True, backend=counter)
    for size in SIZES[:3]:
        x = sc.SparseTensor(*scan(size))
        y = compiled(x)
        assert isinstance(y, sc.SparseTensor) and torch.equal(y.coords, x.coords)
        torch.testing.assert_close(y.features, net.net(x).features, **NET)
    assert counter.frame_count == 1


def test_a_compiled_net_uses_what_is_built():
    torch._dynamo.reset()
    net = sc.models.MinkUNet(3, 4, (4, 6, 4), blocks=1).eval()
    plan = sc.plan(net, sc.SparseTensor(*scan(60)))
    ops = []

    def note(graph, inputs):
        ops.append({str(n.target) for n in graph.graph.nodes if "sparseconv" in str(n.target)})
        return graph.forward

    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend=note)
    for size in SIZES[:3]:
        x = plan.build(sc.SparseTensor(*scan(size)))
        kept = set(x.topology.rulebooks)
        y = compiled(x)
        assert set(x.topology.rulebooks) == kept
        torch.testing.assert_close(y.features, net(x).features, **NET)
    assert ops == [{"sparseconv.conv.default"}], "one graph, without a level or rulebook to build"


LAYERS = {
    "transposed": lambda: sc.nn.SparseConvTranspose3d(3, 4, 2, 2),
    "generative": lambda: sc.nn.SparseGenerativeConv3d(3, 4, 2),
    "max pool": lambda: sc.nn.MaxPool3d(2),
    "average pool": lambda: sc.nn.AvgPool3d(3, 2, 1),
    "global average": lambda: sc.nn.GlobalAvgPool(),
    "global maximum": lambda: sc.nn.GlobalMaxPool(),
    "pool and unpool": lambda: sc.nn.Sequential(sc.nn.SumPool3d(2), sc.nn.Unpool()),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_one_graph(name):
    torch._dynamo.reset()
    layer = LAYERS[name]()
    counter = CompileCounterWithBackend("aot_eager")

    def run(coords, features):
        y = layer(sc.SparseTensor(coords, features, batch_size=1))
        return y.features if isinstance(y, sc.SparseTensor) else y

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend=counter)
    for size in SIZES[:2]:
        coords, features = scan(size)
        torch.testing.assert_close(compiled(coords, features), run(coords, features))
    assert counter.frame_count == 1


def test_sums_cat_interpolation_and_pruning_are_one_graph():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")

    def run(coords, features, points):
        x = sc.SparseTensor(coords, features, batch_size=1)
        y = sc.nn.Pruning()(x, features[:, 0] > 0)
        z = x + y
        return sc.nn.Interpolate()(sc.cat([z, z]), points)

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend=counter)
    for size in SIZES[:2]:
        coords, features = scan(size)
        points = coords.float() + 0.25 * torch.tensor([0, 1, 1, 1])
        expected = run(coords, features, points)
        torch.testing.assert_close(compiled(coords, features, points), expected)
    assert counter.frame_count == 1


# torch's own compiler uses what torch has deprecated
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor():
    torch._dynamo.reset()
    net = OnTensors((4, 6, 4)).eval()
    compiled = torch.compile(net, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in SIZES[:2]:
            coords, features = scan(size)
            expected = net(coords, features)
            torch.testing.assert_close(compiled(coords, features), expected, **NET)


# weights are saved in the memory order of the kernels, of which torch warns for GPUs
@pytest.mark.filterwarnings("ignore:No complete tensor found")
def test_export_save_load_and_run_at_another_size(net):
    net.eval()
    coords, features = scan(SIZES[0])
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(
        net, (coords, features), dynamic_shapes=({0: rows}, {0: rows}), strict=False
    )
    stream = io.BytesIO()
    torch.export.save(program, stream)
    stream.seek(0)
    loaded = torch.export.load(stream).module()
    for size in SIZES[1:]:
        coords, features = scan(size)
        with torch.no_grad():
            expected = net(coords, features)
            torch.testing.assert_close(loaded(coords, features), expected, **NET)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(reentrant):
    x = scene("random_sparse").tensor(3, torch.float32)
    net = sc.nn.Sequential(
        sc.nn.SubMConv3d(3, 6, 3), sc.nn.LayerNorm(6), sc.nn.SparseConv3d(6, 4, 2, 2)
    )

    def run(features):
        return net(x.replace(features=features)).features

    grads = []
    for again in (False, True):
        net.zero_grad()
        features = x.features.clone().requires_grad_()
        y = checkpoint(run, features, use_reentrant=reentrant) if again else run(features)
        y.square().sum().backward()
        grads.append([features.grad, *(p.grad for p in net.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_deepcopy_and_pickle_of_a_net(net):
    coords, features = scan(300)
    net.eval()
    expected = net(coords, features)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(coords, features), expected)


def test_inference_mode_leaves_nothing_behind(backend):
    # a rulebook built in inference mode is kept by the tensor, and later needed for a gradient
    x = scene("random_sparse").tensor(3, torch.float32)
    module = sc.models.MinkUNet(3, 4, (6, 8, 6), blocks=1).eval()
    with torch.inference_mode():
        expected = module(x).features.clone()
    y = module(x)
    assert torch.equal(y.features, expected)
    y.features.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("wrap", ["weight_norm", "spectral_norm"])
def test_reparametrised_weights(wrap):
    layer = getattr(torch.nn.utils.parametrizations, wrap)(sc.nn.SubMConv3d(3, 4, 3))
    x = scene("random_sparse").tensor(3, torch.float32)
    layer(x).features.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


class Rooms(torch.utils.data.Dataset):
    """Sparse tensors made, and convolved, in another process."""

    def __len__(self):
        return 4

    def __getitem__(self, number):
        x = sc.SparseTensor(room(200, seed=number), torch.ones(len(room(200, seed=number)), 3))
        return sc.nn.SubMConv3d(3, 3, 3)(x).detach()


def test_workers_of_a_data_loader():
    torch.set_num_threads(2)
    x = Rooms()[0]
    loader = torch.utils.data.DataLoader(Rooms(), 2, num_workers=2, collate_fn=sc.batch)
    batches = list(loader)
    assert [b.batch_size for b in batches] == [2, 2]
    assert torch.equal(batches[0].unbatch()[0].coords, x.coords)


def test_deterministic_algorithms_are_enough():
    x = scene("random_sparse").tensor(3, torch.float32)
    net = sc.nn.Sequential(sc.nn.SubMConv3d(3, 4, 3), sc.nn.MaxPool3d(2), sc.nn.GlobalAvgPool())
    torch.use_deterministic_algorithms(True)
    try:
        net(x).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_net_on_the_meta_device_takes_no_memory():
    with torch.device("meta"):
        net = sc.models.MinkUNetSmall(3, 4)
    assert all(p.is_meta for p in net.parameters())
    net = net.to_empty(device="cpu")
    net.load_state_dict(sc.models.MinkUNetSmall(3, 4).state_dict())


def test_a_functional_call_uses_the_parameters_given(net):
    coords, features = scan(60)
    net.eval()
    doubled = {k: 2 * v for k, v in net.net.classify.named_parameters(prefix="net.classify")}
    y = torch.func.functional_call(net, doubled, (coords, features))
    torch.testing.assert_close(y, 2 * net(coords, features))


def test_sync_batch_norm_conversion_reaches_the_layers():
    net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(sc.nn.Sequential(sc.nn.BatchNorm(3)))
    assert isinstance(net[0], torch.nn.SyncBatchNorm)
    x = scene("random_sparse").tensor(3, torch.float32)
    y = net.eval()(x)
    assert y.shares_sites(x) and y.features.isfinite().all()


WORKER = """
import os
import sys
import torch
import torch.distributed as dist
import sparseconv as sc
from sparseconv.testing.scenes import room
from sparseconv.testing.tolerances import tolerance

rank, path = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)

def scan(rank):
    coords = room(200 + 300 * rank, seed=rank)
    torch.manual_seed(rank)
    return sc.SparseTensor(coords, torch.randn(len(coords), 3))

torch.manual_seed(0)
net = sc.models.MinkUNet(3, 4, (6, 8, 6), blocks=1).eval()
alone = []
for r in range(2):
    net.zero_grad()
    net(scan(r)).features.square().mean().backward()
    alone.append([p.grad.clone() for p in net.parameters()])
net.zero_grad()
together = torch.nn.parallel.DistributedDataParallel(net)
together(scan(rank)).features.square().mean().backward()
for p, a, b in zip(net.parameters(), *alone):
    scale = float(a.abs().max()) or 1.0
    torch.testing.assert_close(
        p.grad / scale, (a + b) / 2 / scale, **tolerance(torch.float32, "grad_net")
    )
step = torch.optim.SGD(net.parameters(), lr=0.1)
step.step()
total = sum(p.detach().double().sum() for p in net.parameters())
both = [torch.zeros_like(total), torch.zeros_like(total)]
dist.all_gather(both, total)
assert both[0] == both[1]
dist.destroy_process_group()
print("agreed", flush=True)
# gloo's threads abort some interpreters on their way out, with a plain torch net as well
os._exit(0)
"""


def test_two_processes_average_their_gradients(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER))
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    texts = [worker.communicate(timeout=120)[0] for worker in workers]
    for worker, text in zip(workers, texts, strict=True):
        assert worker.returncode == 0 and "agreed" in text, text
