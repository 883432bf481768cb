"""Checks of what a user hands to a primitive, made before the real and the fake kernel alike."""

import torch
from torch import Tensor

from sparseconv._errors import complain
from sparseconv.backends.reference.conv import accumulator

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def describe(value: object) -> str:
    """Return dtype, shape and device of a tensor, or the type of anything else."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype} {list(value.shape)} on {value.device.type}"
    return type(value).__name__


def check_coords(name: str, coords: Tensor) -> None:
    """Refuse what is not int32 [N, 4]."""
    if not isinstance(coords, Tensor) or coords.dtype != torch.int32:
        cure = "convert with .to(torch.int32)"
        raise TypeError(complain(name, "an int32 tensor [N, 4]", describe(coords), cure))
    if coords.dim() != 2 or coords.shape[1] != 4:
        cure = "columns are batch, x, y, z"
        raise ValueError(complain(name, "shape [N, 4]", describe(coords), cure))


def check_geometry(offsets: list[int], stride: list[int], *bounds: list[int]) -> None:
    """Refuse tap offsets that are not threes of ints, and strides below 1."""
    if len(offsets) % 3:
        raise ValueError(complain("offsets", "3K ints, x y z of each tap", f"{len(offsets)}"))
    if len(stride) != 3 or min(stride) < 1:
        raise ValueError(complain("stride", "three ints >= 1", f"{list(stride)}"))
    for bound in bounds:
        if len(bound) not in (0, 3):
            raise ValueError(complain("lower, upper", "three ints or none", f"{list(bound)}"))


def check_features(name: str, features: Tensor) -> None:
    """Refuse what is not a floating tensor [N, C]."""
    if not isinstance(features, Tensor) or features.dtype not in FLOATS:
        cure = "convert with .float()"
        raise TypeError(
            complain(name, "float32, float64, bfloat16 or float16 [N, C]", describe(features), cure)
        )
    if features.dim() != 2:
        raise ValueError(complain(name, "shape [N, C]", describe(features)))


def check_pairs(in_rows: Tensor, out_rows: Tensor) -> None:
    """Refuse pairs that are not two int32 tensors of one length."""
    for name, rows in (("in_rows", in_rows), ("out_rows", out_rows)):
        if rows.dtype != torch.int32 or rows.dim() != 1:
            raise TypeError(complain(name, "an int32 tensor [P]", describe(rows)))
    if torch.compiler.is_compiling():
        torch._check(in_rows.shape[0] == out_rows.shape[0])
    elif in_rows.shape[0] != out_rows.shape[0]:
        raise ValueError(
            complain("out_rows", f"{in_rows.shape[0]} entries as in_rows", describe(out_rows))
        )


def check_same_dtype(name: str, value: Tensor, features: Tensor) -> None:
    """Refuse a tensor whose dtype or device is not that of the features."""
    if value.dtype != features.dtype or value.device != features.device:
        raise TypeError(
            complain(
                name,
                f"{str(features.dtype).removeprefix('torch.')} on {features.device.type}, "
                "as the features",
                describe(value),
                "move one with .to(), or use torch.autocast for mixed precision",
            )
        )


def check_conv(
    features: Tensor,  # [N, C]
    weight: Tensor,  # [K, C / G, D]
    bias: Tensor | None,  # [D]
    segments: Tensor,  # [K + 1]
    groups: int,
) -> None:
    """Refuse channels, groups, taps and dtypes that do not fit; a weight may have that of sums."""
    check_features("features", features)
    if weight.dtype != accumulator(features.dtype) or weight.device != features.device:
        check_same_dtype("weight", weight, features)
    if weight.dim() != 3:
        raise ValueError(complain("weight", "shape [K, C / G, D]", describe(weight)))
    channels, (taps, per_group, width) = features.shape[1], weight.shape
    if groups < 1 or channels != per_group * groups or width % groups:
        raise ValueError(
            complain(
                "features",
                f"{per_group * groups} channels ({per_group} per group, {groups} groups) and "
                f"output channels divisible by {groups}",
                f"{channels} channels in, {width} out",
                "set in_channels of the layer to the channels of its input",
            )
        )
    if segments.shape[0] != taps + 1:
        raise ValueError(
            complain(
                "segments",
                f"{taps + 1} entries for the {taps} taps of the weight",
                f"{segments.shape[0]}",
                "use a rulebook built for this kernel size",
            )
        )
    if bias is not None:
        check_same_dtype("bias", bias, features)
        if bias.dim() != 1 or bias.shape[0] != width:
            raise ValueError(complain("bias", f"shape [{width}]", describe(bias)))


def check_residual(
    residual: Tensor | None, features: Tensor, num_out: int, width: int, rows: str = "M"
) -> None:
    """Refuse what cannot be added to a result [M, D] made of `features`; M may be called `rows`."""
    if residual is None:
        return
    check_same_dtype("residual", residual, features)
    if residual.dim() != 2 or residual.shape[1] != width:
        raise ValueError(complain("residual", f"shape [{rows}, {width}]", describe(residual)))
    if torch.compiler.is_compiling():
        torch._check(residual.shape[0] == num_out)
    elif residual.shape[0] != num_out:
        raise ValueError(complain("residual", f"{num_out} rows", describe(residual)))


def check_columns(features: Tensor, width: int, **columns: Tensor | None) -> None:
    """Refuse values per channel that are not [D] in the dtype of features or of their sums."""
    wide = accumulator(features.dtype)
    for name, value in columns.items():
        if value is None:
            continue
        if value.dtype not in (features.dtype, wide) or value.device != features.device:
            expected = f"{str(wide).removeprefix('torch.')} on {features.device.type}"
            raise TypeError(complain(name, expected, describe(value), "move one with .to()"))
        if value.dim() != 1 or value.shape[0] != width:
            raise ValueError(complain(name, f"shape [{width}]", describe(value)))
