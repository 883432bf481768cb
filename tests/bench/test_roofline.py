import pytest
import torch

from sparseconv.backends import native_available

pytestmark = pytest.mark.skipif(not native_available(), reason="needs the compiled module")


@pytest.mark.parametrize("dtype", [0, 1, 2])
def test_as_many_operations_as_asked_for(dtype, isa):
    from sparseconv import _native

    few, many = (_native.multiply_adds(dtype, flops, 1) for flops in (1, 50_000_000))
    assert 1 <= few < many
    assert 50_000_000 <= many < 50_000_000 + few
    assert _native.multiply_adds(dtype, 50_000_000, 2) == many


def test_float16_has_no_rate_of_its_own():
    from sparseconv import _native

    with pytest.raises(ValueError, match="float32, float64 or bfloat16"):
        _native.multiply_adds(3, 1, 1)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 4095, 4097, 123_457])
def test_every_byte_is_copied_and_none_beyond(size, threads):
    from sparseconv import _native

    source = torch.randint(1, 256, (size + 1,), dtype=torch.uint8)
    target = torch.zeros(size + 1, dtype=torch.uint8)
    _native.copy_bytes(source.data_ptr(), target.data_ptr(), size, threads)
    assert torch.equal(target[:size], source[:size])
    assert target[size] == 0
