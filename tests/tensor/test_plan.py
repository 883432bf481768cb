"""A plan builds ahead of a net what the net would build, and the net then builds nothing."""

import pickle

import pytest
import torch

import sparseconv as sc
from sparseconv import nn
from sparseconv.geometry import Geometry
from sparseconv.testing import laws
from sparseconv.testing.scenes import room, scene

WIDE = {"dtype": torch.float64}
NETS = {
    "submanifold": lambda: nn.Sequential(
        nn.SubMConv3d(2, 2, 3, **WIDE), nn.SubMConv3d(2, 2, (1, 3, 2), dilation=2, **WIDE)
    ),
    "strided and inverse": lambda: nn.Sequential(
        nn.SparseConv3d(2, 2, 3, 2, 1, **WIDE), nn.SparseInverseConv3d(2, 2, 3, **WIDE)
    ),
    "transposed": lambda: nn.Sequential(
        nn.SparseConv3d(2, 2, 2, 2, **WIDE),
        nn.SparseConvTranspose3d(2, 2, 3, 2, 1, output_padding=1, **WIDE),
        nn.SubMConv3d(2, 2, 3, **WIDE),
        nn.MaxPool3d(2),
    ),
    "pooling": lambda: nn.Sequential(nn.MaxPool3d(2), nn.AvgPool3d(3, 2, 1), nn.Unpool()),
    "generative": lambda: nn.Sequential(
        nn.SparseConv3d(2, 2, 2, 2, **WIDE), nn.SparseGenerativeConv3d(2, 2, 2, **WIDE)
    ),
    "unet": lambda: sc.models.MinkUNet(2, 3, (4, 6, 8, 6, 4), blocks=1).double(),
}


@pytest.fixture(params=NETS)
def net(request):
    torch.manual_seed(0)
    return NETS[request.param]()


def names(topology):
    return set(topology.levels), set(topology.rulebooks)


@pytest.mark.parametrize("name", ["random_sparse", "negative", "empty", "empty_batch_item"])
def test_a_net_builds_nothing_on_a_tensor_its_plan_built(backend, net, name, built):
    plan = sc.plan(net, scene("line").tensor(2))
    x, y = scene(name).tensor(2), scene(name).tensor(2)
    plan.build(x)
    before = names(x.topology)
    with built() as counted:
        found = net.eval()(x)
    assert counted.ops == [] and names(x.topology) == before
    expected = net(y)
    assert names(y.topology) == before, "nothing beyond what the net asks for"
    assert torch.equal(found.features, expected.features)
    assert torch.equal(found.coords, expected.coords)


def test_a_plan_is_plain_data(net):
    plan = sc.plan(net, scene("line").tensor(2))
    data = pickle.dumps(plan)
    assert len(data) < 4000 and pickle.loads(data) == plan
    assert hash(plan) == hash(pickle.loads(data))
    assert plan.left_out == ()


def test_planning_leaves_net_and_tensor_as_they_were():
    net = nn.Sequential(nn.SubMConv3d(2, 2, 3), nn.BatchNorm(2), nn.Dropout(0.5))
    net[2].eval()
    x = scene("random_sparse").tensor(2, torch.float32)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    plan = sc.plan(net, x)
    assert [module.training for module in net.modules()][:3] == [True, True, True]
    assert net[1].training and not net[2].training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    assert names(x.topology) == ({"sites"}, set())
    assert (len(plan.levels), len(plan.rulebooks)) == (0, 1)


def test_a_net_that_fails_is_left_as_it_was():
    net = nn.Sequential(nn.SubMConv3d(3, 2, 3))
    with pytest.raises(ValueError, match="expected 3 channels, found 2"):
        sc.plan(net, scene("line").tensor(2, torch.float32))
    assert net.training and net[0].training and not net[0]._forward_hooks


class Pruned(torch.nn.Module):
    """A net whose second half runs on sites that its features choose."""

    def __init__(self):
        super().__init__()
        self.first = nn.SubMConv3d(2, 2, 3, **WIDE)
        self.prune = nn.Pruning()
        self.second = nn.SubMConv3d(2, 2, 5, **WIDE)

    def forward(self, x):
        y = self.first(x)
        return self.second(self.prune(y, y.features[:, 0] > 0))


def test_sites_that_depend_on_features_are_left_out_and_said():
    net = Pruned()
    plan = sc.plan(net, scene("random_sparse").tensor(2))
    assert plan.left_out[:2] == ("prune", "second") and "'prune'" in repr(plan)
    assert plan.rulebooks == (f"sites>sites:{net.first.geometry.key}",)
    x = plan.build(scene("negative").tensor(2))
    assert len(x.topology.rulebooks) == 1


def test_a_function_and_what_a_topology_holds_by_now():
    x = scene("random_sparse").tensor(2)
    pool = nn.MaxPool3d(2)
    plan = sc.plan(lambda t: pool(pool(t)), x)
    pool(pool(x))
    assert sc.Plan.of(x) == plan and sc.Plan.of(pool(x)) == plan
    assert len(plan.levels) == 2


def test_rows_in_another_order_are_planned_for_as_well():
    # of rows in an order of the user's own the plan knows nothing, and needs nothing
    net = NETS["unet"]().eval()
    coords = room(400)
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(1))
    features = torch.randn(len(coords), 2, dtype=torch.float64)
    plan = sc.plan(net, sc.SparseTensor(coords[order], features[order]))
    x = plan.build(sc.SparseTensor(coords, features))
    shuffled = plan.build(sc.SparseTensor(coords[order], features[order]))
    assert torch.equal(shuffled.coords, coords[order])
    laws.assert_same(net(shuffled), net(x), rtol=0, atol=1e-12)


def test_build_refuses_other_levels_and_foreign_names():
    x = scene("random_sparse").tensor(2)
    with pytest.raises(ValueError, match=r"x: expected a tensor at the root.*build on the tensor"):
        sc.Plan().build(nn.MaxPool3d(2)(x))
    key = Geometry.make(2, 2).key
    for levels in (("sites/k2",), (f"sites/{key}o0.0.0",), (f"sites^{key}",), ("elsewhere",)):
        with pytest.raises(ValueError, match=r"levels: expected|key: expected"):
            sc.Plan(levels).build(x)
    with pytest.raises(ValueError, match="rulebooks: expected names"):
        sc.Plan((), ("sites",)).build(x)
