"""Ops go to their kernel at once, unless somebody looks or a gradient is wanted."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sparseconv.ops import _direct
from sparseconv.ops._direct import direct
from sparseconv.ops.coords import site_order, unique_coords

LIBRARY = torch.library.Library("sparseconv_direct_test", "FRAGMENT")


def toy(name, schema):
    """Return an op that counts the calls that reach it, what calls it, and the two counts."""
    LIBRARY.define(f"{name}{schema}")
    reached = {"op": 0, "kernel": 0}

    def through_torch(*args):
        reached["op"] += 1
        return (args[0][0] if isinstance(args[0], list) else args[0]) + 1

    def kernel(*args):
        reached["kernel"] += 1
        return args[0] + 1

    LIBRARY.impl(name, through_torch, "CompositeExplicitAutograd")
    fake = lambda *args: torch.empty_like(args[0])  # noqa: E731
    torch.library.register_fake(f"sparseconv_direct_test::{name}", fake, lib=LIBRARY)
    op = getattr(torch.ops.sparseconv_direct_test, name).default
    return op, direct(op, kernel, op), reached


@pytest.fixture(scope="module")
def toys():
    if not _direct._CAN_TELL:
        pytest.skip("this torch does not say who looks at a call")
    return toy("plus", "(Tensor a) -> Tensor")


@pytest.fixture
def call(toys):
    toys[2].update(op=0, kernel=0)
    return toys[1:]


class Sees(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class SeesFunctions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Marked(torch.Tensor):
    pass


def test_a_plain_call_goes_to_the_kernel(call):
    plus, reached = call
    assert torch.equal(plus(torch.arange(3)), torch.arange(1, 4))
    assert reached == {"op": 0, "kernel": 1}


@pytest.mark.parametrize(
    "watch",
    [Sees, SeesFunctions, torch.profiler.profile, lambda: torch.device("cpu")],
    ids=["dispatch mode", "function mode", "profiler", "default device"],
)
def test_a_watched_call_goes_through_torch(call, watch):
    plus, reached = call
    with watch():
        assert torch.equal(plus(torch.arange(3)), torch.arange(1, 4))
    assert reached == {"op": 1, "kernel": 0}
    plus(torch.arange(3))
    assert reached == {"op": 1, "kernel": 1}


def test_a_profiler_sees_the_op_by_name():
    coords = torch.randint(0, 9, (20, 4), dtype=torch.int32)
    with torch.profiler.profile() as profile:
        site_order(coords)
    assert "sparseconv::site_order" in [event.key for event in profile.key_averages()]


def test_other_tensors_go_through_torch(call):
    plus, reached = call
    marked = torch.arange(3).as_subclass(Marked)
    assert torch.equal(plus(marked).as_subclass(torch.Tensor), torch.arange(1, 4))
    assert reached == {"op": 1, "kernel": 0}
    assert plus(torch.arange(3, device="meta")).is_meta
    assert reached["kernel"] == 0


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_where_a_gradient_is_wanted_torch_is_asked(call):
    plus, reached = call
    weight = torch.nn.Parameter(torch.ones(3))
    for tensor in (weight, weight * 2):
        plus(tensor)
        with torch.no_grad():
            plus(tensor)
        plus(tensor.detach())
    assert reached == {"op": 2, "kernel": 4}
    with torch.autograd.forward_ad.dual_level():
        plus(torch.autograd.forward_ad.make_dual(torch.ones(3), torch.ones(3)))
    assert reached["kernel"] == 4


def test_a_list_of_tensors_goes_through_torch():
    if not _direct._CAN_TELL:
        pytest.skip("this torch does not say who looks at a call")
    _, first, reached = toy("first", "(Tensor[] a) -> Tensor")
    assert torch.equal(first([torch.arange(3)]), torch.arange(1, 4))
    assert reached == {"op": 1, "kernel": 0}


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_transforms_traces_and_fakes_go_through_torch(call):
    plus, reached = call
    with FakeTensorMode():
        assert plus(torch.empty(3)).shape == (3,)
    traced = torch.jit.trace(plus, torch.arange(3), check_trace=False)
    assert "sparseconv_direct_test::plus" in str(traced.graph)
    torch.func.grad(lambda x: plus(x.detach()).sum() + x.sum())(torch.ones(3))
    assert reached["kernel"] == 0


def test_a_compiled_graph_holds_the_op(call):
    plus, reached = call
    seen = []

    def backend(graph, inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    torch.compile(plus, backend=backend, fullgraph=True)(torch.arange(3))
    assert "sparseconv_direct_test.plus.default" in seen
    assert reached["kernel"] == 0


def test_without_means_to_tell_the_op_itself_is_called(toys):
    op, _, _ = toys
    assert direct(op, None, None, can_tell=False) is op


def test_results_are_the_same_either_way():
    coords = torch.randint(-5, 5, (300, 4), dtype=torch.int32)
    plain = unique_coords(coords)
    with Sees():
        watched = unique_coords(coords)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
