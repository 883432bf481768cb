"""The threads of the compiled kernels: callers apart, helpers that come late, threads that end."""

import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import torch

pytest.importorskip("sparseconv._native", reason="the compiled module is not installed")

from sparseconv.backends.cpu.conv import conv
from sparseconv.backends.cpu.coords import site_index, unique_coords
from sparseconv.backends.cpu.rulebook import rulebook

CUBE = [v for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) for v in (x, y, z)]
SECONDS = 120


@pytest.fixture(scope="module")
def work():
    rng = torch.Generator().manual_seed(0)
    sites = torch.randint(0, 18, (4000, 4), dtype=torch.int32, generator=rng)
    sites[:, 0] = 0
    sites = unique_coords(sites)[0]
    book = rulebook(sites, site_index(sites), sites, CUBE, [1, 1, 1], True)
    x = torch.randn(len(sites), 32, generator=rng)
    w = torch.randn(27, 32, 32, generator=rng)
    return lambda: conv(x, w, None, *book, len(sites), 1)


@pytest.mark.parametrize("pause", [0.0, 0.005], ids=["awake", "asleep"])
def test_helpers_awake_and_asleep(work, pause):
    torch.set_num_threads(1)
    expected = work()
    for threads in (2, 5, 2, 3):
        torch.set_num_threads(threads)
        for _ in range(10):
            assert torch.equal(work(), expected), f"{threads} threads"
            # longer than they look out for the next call
            time.sleep(pause)


def test_callers_do_not_share_helpers_and_may_end(work):
    torch.set_num_threads(1)
    expected = work()
    torch.set_num_threads(2)
    wrong = []

    def call():
        # set for this thread, as torch does
        torch.set_num_threads(2)
        for _ in range(8):
            if not torch.equal(work(), expected):
                wrong.append(threading.get_ident())

    for _ in range(4):
        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(SECONDS)
            assert not caller.is_alive(), "a caller waits for ever"
    assert not wrong


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="asks for threads as Linux does")
def test_helpers_are_as_many_as_asked_for_serve_the_next_caller_and_take_no_signal():
    script = """
    import os
    import threading
    import time
    import torch
    from sparseconv.backends.cpu.norm import norm_apply

    x, c = torch.randn(20_000, 64), torch.ones(64)
    before = set()

    def tasks():
        return set(os.listdir("/proc/self/task"))

    def call():
        torch.set_num_threads(3)
        # with those of torch
        before.update(tasks())
        norm_apply(x, c, c, None, None, None, 0.0, False)
        helpers.update(tasks() - before)

    helpers = set()
    for _ in range(5):
        caller = threading.Thread(target=call)
        caller.start()
        caller.join()
        # Python says so before the thread has ended
        time.sleep(0.1)
        before |= tasks() - helpers
    masks = []
    for helper in helpers:
        with open(f"/proc/self/task/{helper}/status") as status:
            blocked = next(line for line in status if line.startswith("SigBlk"))
        masks.append(int(blocked.split()[1], 16))
    # signal s is bit s - 1: SIGINT and SIGTERM
    print("helpers:", len(helpers), "deaf:", sum(m >> 1 & m >> 14 & 1 for m in masks))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert "helpers: 2 deaf: 2" in done.stdout, done.stdout + done.stderr


def test_an_error_in_a_task_is_raised_and_the_next_call_works(work):
    torch.set_num_threads(2)
    expected = work()
    rows = torch.arange(5000, dtype=torch.int32)
    far = rows.clone()
    far[4321] = 5000
    x, w = torch.randn(5000, 16), torch.randn(1, 16, 16)
    for _ in range(3):
        with pytest.raises(ValueError, match="in_rows"):
            conv(x, w, None, far, rows, torch.tensor([0, 5000]), 5000, 1)
        assert torch.equal(work(), expected)
