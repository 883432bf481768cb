"""The compiled kernels read between cells against the reference: sets, dtypes, threads, orders."""

import pytest
import torch

from sparseconv.backends import native_available
from sparseconv.backends.reference import deform_kernel as reference
from sparseconv.testing.sample import pairs_of

if not native_available():
    pytest.skip("the compiled module is not installed", allow_module_level=True)

from sparseconv.backends.cpu import deform_kernel as cpu

CLOSE = {torch.float64: 1e-11, torch.float32: 3e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def problem(channels, groups, scope, dtype, wide, turned=False):
    """Arguments up to the gradient; places within and beyond the grid, some nowhere."""
    in_rows, out_rows, segments, n, m = pairs_of("random_sparse", (3, 3, 2), 1, 1)
    if turned:
        # the taps of the other direction: output rows come in no order
        (in_rows, out_rows), n, m = (out_rows, in_rows), m, n
        for first, last in zip(segments[:-1].tolist(), segments[1:].tolist(), strict=True):
            order = first + torch.randperm(last - first)
            in_rows[first:last], out_rows[first:last] = in_rows[order], out_rows[order]
    taps = len(segments) - 1
    ends = torch.tensor(scope) + 2.0
    places = (ends * torch.rand(m, taps, groups, 3, dtype=torch.float64) - 1.5).to(wide)
    places[0, :, :, 1], places[1], places[2, 0] = torch.nan, places[1].round(), 1e12

    def normal(*size):
        return torch.randn(*size, dtype=torch.float64).to(dtype)

    cells = scope[0] * scope[1] * scope[2]
    given = normal(n, channels), normal(cells, channels), places, in_rows, out_rows, segments, scope
    return given, normal(m, channels)


def compare(given, g):
    found = (cpu.deform_kernel(*given), *cpu.deform_kernel_grad(*given, g))
    right = (reference.deform_kernel(*given), *reference.deform_kernel_grad(*given, g))
    for i, (a, b) in enumerate(zip(found, right, strict=True)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        limit = CLOSE[given[0].dtype] * b.double().abs().max()
        assert b.any() and (a.double() - b.double()).abs().max() <= limit, i


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 3), (17, 1), (66, 2)])
def test_every_instruction_set(isa, dtype, channels, groups):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    compare(*problem(channels, groups, [4, 1, 3], dtype, wide))


@pytest.mark.parametrize("turned", [False, True])
def test_places_of_doubles_and_rows_in_any_order(turned):
    compare(*problem(8, 2, [2, 3, 4], torch.float32, torch.float64, turned))


def test_threads_change_no_bit():
    given, g = problem(16, 2, [4, 4, 4], torch.float32, torch.float32)
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append((cpu.deform_kernel(*given), *cpu.deform_kernel_grad(*given, g)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_rows_out_of_range_are_refused():
    given, g = problem(4, 1, [2, 2, 2], torch.float32, torch.float32)
    wrong = given[3].clone()
    wrong[0] = len(given[0])
    with pytest.raises(ValueError, match="in_rows"):
        cpu.deform_kernel(*given[:3], wrong, *given[4:])
    with pytest.raises(ValueError, match="grad"):
        cpu.deform_kernel_grad(*given, g[1:])
    with pytest.raises(ValueError, match="weight"):
        cpu.deform_kernel(given[0], given[1][1:], *given[2:])
