"""Built tensors sent to other processes, pinned and moved: all is there, nothing is built again."""

import os
import subprocess
import sys
import textwrap
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

import sparseconv as sc
from sparseconv.backends import native_available
from sparseconv.testing.scenes import room, scene

NET = sc.models.MinkUNet(2, 3, (4, 6, 8, 6, 4), blocks=1)
PLAN = sc.plan(NET, scene("line").tensor(2, torch.float32))
SECONDS = 120


def scan(number, count=300):
    coords = room(count, seed=number)
    rng = torch.Generator().manual_seed(number)
    return sc.SparseTensor(coords, torch.randn(len(coords), 2, generator=rng), batch_size=1)


def assert_same(found, expected):
    assert torch.equal(found.coords, expected.coords)
    assert torch.equal(found.features, expected.features)
    assert found.level == expected.level
    ours, theirs = found.topology, expected.topology
    assert ours.levels.keys() == theirs.levels.keys() and ours.origins == theirs.origins
    for name, level in theirs.levels.items():
        assert torch.equal(ours.levels[name].coords, level.coords)
        for kept in ("stride", "spatial_shape", "batch_size"):
            assert getattr(ours.levels[name], kept) == getattr(level, kept)
    assert ours.rulebooks.keys() == theirs.rulebooks.keys()
    for name, book in theirs.rulebooks.items():
        for part in ("in_rows", "out_rows", "segments"):
            assert torch.equal(getattr(ours.rulebooks[name], part), getattr(book, part))


def storages(x):
    return {
        tensor.untyped_storage().data_ptr()
        for tensor in (
            *(level.coords for level in x.topology.levels.values()),
            *(
                getattr(b, n)
                for b in x.topology.rulebooks.values()
                for n in ("in_rows", "segments")
            ),
        )
    }


@pytest.fixture
def queue():
    queue = torch.multiprocessing.SimpleQueue()
    yield queue
    queue.close()


def test_a_built_tensor_goes_through_a_queue_whole(queue, built):
    x = PLAN.build(scan(0))
    queue.put(x)
    y = queue.get()
    assert_same(y, x)
    with built() as counted, torch.no_grad():
        NET(y)
    assert counted.ops == []
    # everything about where is one block, on both sides
    assert len(storages(x)) == len(storages(y)) == 1 and x.is_shared() and y.is_shared()


def test_the_message_is_short_whatever_the_size(queue):
    small, large = (len(ForkingPickler.dumps(PLAN.build(scan(0, n)))) for n in (100, 5000))
    assert abs(large - small) < 100 and large < 6000


def test_tensors_of_one_topology_still_share_it(queue):
    x = PLAN.build(scan(0))
    queue.put([x, x.replace(features=x.features * 2)])
    a, b = queue.get()
    assert a.shares_sites(b)


@pytest.mark.parametrize("name", ["empty", "empty_batch_item", "negative", "line"])
def test_every_kind_of_scene_arrives(queue, name):
    x = PLAN.build(scene(name).tensor(2))
    x.lookup(x.coords)
    queue.put(x)
    y = queue.get()
    assert_same(y, x)
    assert y.topology.tables == {}, "an index belongs to the backend that built it"
    assert y.lookup(x.coords).tolist() == list(range(len(x)))


def test_shared_memory_is_sent_without_a_copy(queue):
    x = PLAN.build(scan(0))
    assert not x.is_shared()
    coords = x.coords
    expected = scan(0)
    assert x.share_memory_() is x and x.is_shared()
    assert torch.equal(coords, expected.coords) and not coords.is_shared()
    assert_same(x, PLAN.build(expected))
    queue.put(x)
    y = queue.get()
    y.coords[0, 1] += 7
    y.features[0, 0] += 7
    assert x.coords[0, 1] == y.coords[0, 1] and x.features[0, 0] == y.features[0, 0]
    # a level that comes later is in nobody's block yet
    sc.nn.MaxPool3d(3, 2, 1)(x)
    assert not x.is_shared()
    queue.put(x)
    assert_same(queue.get(), x)


def test_moving_keeps_what_is_built():
    x = PLAN.build(scan(0))
    x.lookup(x.coords)
    y = x.to("meta", non_blocking=True)
    assert y.topology.rulebooks.keys() == x.topology.rulebooks.keys()
    assert y.topology.levels.keys() == x.topology.levels.keys()
    tensors = [y.features, *(level.coords for level in y.topology.levels.values())]
    tensors += [b.in_rows for b in y.topology.rulebooks.values()]
    assert all(t.is_meta for t in tensors)
    assert y.topology.tables == {} and len(x.topology.tables) == 1
    assert x.cpu().topology is x.topology and x.to(torch.float64).topology is x.topology


def test_pinning_does_what_torch_does_here():
    x = PLAN.build(scan(0))
    if not torch.accelerator.is_available():
        assert not x.is_pinned()
        with pytest.raises(RuntimeError):
            torch.ones(1).pin_memory()
        with pytest.raises(RuntimeError):
            x.pin_memory()
        return
    y = x.pin_memory()
    assert y.is_pinned() and not x.is_pinned()
    assert_same(y, x)
    z = y.to("cuda", non_blocking=True)
    z.record_stream(torch.cuda.current_stream())
    assert_same(z.cpu(), x)


class Rooms(torch.utils.data.Dataset):
    """Scans that are built where they are asked for."""

    def __len__(self):
        return 6

    def __getitem__(self, number):
        return PLAN.build(scan(number)), number


def collate(items):
    return sc.batch([x for x, _ in items]), torch.tensor([number for _, number in items])


def loader(dataset, **options):
    known = {"batch_size": 2, "num_workers": 2, "collate_fn": collate, "timeout": SECONDS}
    return torch.utils.data.DataLoader(
        dataset, multiprocessing_context="fork", **{**known, **options}
    )


def use_threads():
    """Run compiled kernels on two threads, as a program that has trained for a while has."""
    torch.set_num_threads(2)
    x = scan(9, 20_000)
    with torch.no_grad():
        NET(x)


# of the threads above, which is what is on trial
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
# without a GPU torch says that it does not pin
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
@pytest.mark.parametrize("option", ["", "persistent_workers", "pin_memory"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_workers_build_and_the_parent_builds_nothing(option, built):
    use_threads()
    batches = loader(Rooms(), **({option: True} if option else {}))
    for _ in range(2):
        order = []
        for x, numbers in batches:
            with built() as counted, torch.no_grad():
                found = NET.eval()(x)
            assert counted.ops == []
            expected = NET(sc.batch([scan(int(n)) for n in numbers]))
            assert torch.equal(found.features, expected.features)
            order += numbers.tolist()
        assert order == list(range(6))


FORK = """
import os
import sys
import time
import torch
import sparseconv as sc
from sparseconv.testing.scenes import room

torch.set_num_threads(2)
net = sc.models.MinkUNet(2, 3, (4, 6, 8, 6, 4), blocks=1)
coords = room(60_000)
x = sc.SparseTensor(coords, torch.ones(len(coords), 2))
plan = sc.plan(net, x)
child = os.fork()
if child == 0:
    # against what torch set for its workers
    torch.set_num_threads(2)
    plan.build(x)
    os._exit(len(x.topology.rulebooks))
for _ in range(600):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        print("built", os.waitstatus_to_exitcode(status))
        break
    time.sleep(0.1)
else:
    os.kill(child, 9)
    os.waitpid(child, 0)
    sys.exit("the child waits for threads that did not follow the fork")
"""

SPAWN = """
import torch
import sparseconv as sc
from sparseconv.testing.scenes import room

def scan(number):
    coords = room(300, seed=number)
    return sc.SparseTensor(coords, torch.full((len(coords), 2), 1.0 + number), batch_size=1)

class Rooms(torch.utils.data.Dataset):
    def __init__(self, plan, kept):
        self.plan, self.kept = plan, kept

    def __len__(self):
        return 4

    def __getitem__(self, number):
        torch.set_num_threads(2)
        return self.kept if number == 3 else self.plan.build(scan(number))

if __name__ == "__main__":
    torch.set_num_threads(2)
    net = sc.models.MinkUNet(2, 3, (4, 6, 8, 6, 4), blocks=1).eval()
    net(sc.SparseTensor(room(20_000), torch.ones(len(room(20_000)), 2)))
    plan = sc.plan(net, scan(0))
    # a built scan goes to the workers as well
    rooms = Rooms(plan, plan.build(scan(3)))
    loader = torch.utils.data.DataLoader(
        rooms, 2, num_workers=2, collate_fn=sc.batch, timeout=100, multiprocessing_context="spawn",
        persistent_workers=True,
    )
    for turn in range(2):
        for number, x in enumerate(loader):
            kept = len(x.topology.rulebooks)
            with torch.no_grad():
                y = net(x)
                z = net(sc.batch([scan(2 * number), scan(2 * number + 1)]))
            assert kept == len(plan.rulebooks) == len(x.topology.rulebooks)
            assert torch.equal(y.features, z.features)
    print("spawned", number + 1)
"""


@pytest.mark.parametrize(("script", "said"), [(FORK, "built 5"), (SPAWN, "spawned 2")])
def test_whole_programs_end(script, said, tmp_path):
    if script is FORK and not (hasattr(os, "fork") and native_available()):
        pytest.skip("only the compiled kernels have threads of their own")
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(path)],
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0 and said in done.stdout, done.stderr
