"""The integers of a convolution, against the oracle and torch's own shapes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparseconv.geometry import Geometry, triple
from sparseconv.testing.oracle import Spec

THREE = st.tuples(*[st.integers(1, 4)] * 3)


@given(
    THREE, THREE, st.tuples(*[st.integers(0, 3)] * 3), THREE, st.tuples(*[st.integers(0, 9)] * 3)
)
def test_offsets_and_extents_are_the_oracles(size, stride, padding, dilation, shape):
    ours, spec = (
        Geometry.make(size, stride, padding, dilation),
        Spec.of(size, stride, padding, dilation),
    )
    expected = [v for tap in spec.taps for v in spec.reads((0, 0, 0, 0), tap)[1:]]
    assert list(ours.offsets) == expected and ours.taps == len(spec.taps)
    assert ours.output_shape(shape) == spec.output_shape(shape)
    if min(shape):
        assert ours.transposed_shape(shape) == spec.transposed_shape(shape)


@given(THREE, THREE)
def test_same_keeps_the_extent(size, dilation):
    ours, spec = Geometry.submanifold(size, dilation), Spec.of(size, 1, "same", dilation)
    assert ours.output_shape((5, 6, 7)) == (5, 6, 7) == spec.output_shape((5, 6, 7))
    assert list(ours.offsets) == [v for t in spec.taps for v in spec.reads((0,) * 4, t)[1:]]


@given(st.tuples(THREE, THREE, THREE, THREE), st.tuples(THREE, THREE, THREE, THREE))
def test_keys_tell_geometries_apart(one, other):
    a, b = Geometry.make(*one), Geometry.make(*other)
    assert (a.key == b.key) == (
        a.offsets == b.offsets and a.stride == b.stride and a.size == b.size
    )


@given(st.tuples(THREE, THREE, st.one_of(st.integers(0, 12), THREE), THREE))
def test_a_key_is_read_back(arguments):
    given_one = Geometry.make(*arguments)
    for ours in (given_one, Geometry.submanifold(arguments[0], arguments[3])):
        again = Geometry.parse(ours.key)
        assert again == ours and (again.offsets, again.key) == (ours.offsets, ours.key)


@pytest.mark.parametrize("key", ["", "k3.3.3", "k3.3.3s1.1.1p-1.1.1d1.1.1f1.1.1", "xk1.1.1s1.1.1"])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match="key: expected a text such as"):
        Geometry.parse(key)


@pytest.mark.parametrize("arguments", [(3, 2, 1, 1), (2, 2, 0, 1), ((1, 2, 4), 1, (0, 1, 2), 2)])
def test_extents_are_torchs(arguments):
    ours, grid = Geometry.make(*arguments), torch.zeros(1, 1, 9, 8, 10)
    conv = torch.nn.Conv3d(1, 1, *arguments)
    assert ours.output_shape((9, 8, 10)) == tuple(conv(grid).shape[2:])
    kernel, stride, padding, dilation = arguments
    up = torch.nn.ConvTranspose3d(1, 1, kernel, stride, padding, dilation=dilation)
    assert ours.transposed_shape((9, 8, 10)) == tuple(up(grid).shape[2:])


@pytest.mark.parametrize("value", ["3", 2.0, (1, 2), (1, 2, 3, 4), True, (1, 2, 3.0), None])
def test_what_is_not_three_ints_is_refused(value):
    with pytest.raises(TypeError, match=r"size: expected an int or three ints \(x, y, z\)"):
        triple("size", value, least=1)


def test_too_small_values_are_refused():
    assert triple("size", [1, 2, 3], least=1) == (1, 2, 3)
    with pytest.raises(ValueError, match="size: expected values >= 1, found 0"):
        triple("size", 0, least=1)
