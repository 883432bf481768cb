"""Runs under valgrind: one kernel in each of some processes, so that their instructions count.

Loads the compiled module by its path, without torch, whose import would take minutes here. Prints
a line `PROCESS NAME` for each process; `nothing` is what they share. The last line is the work.
"""

import importlib.util
import json
import os
import sys

import numpy as np

CHANNELS = 64
CUBE = [v for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) for v in (x, y, z)]


def load(path):
    spec = importlib.util.spec_from_file_location("_native", path)
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    return native


def sheet(side):
    """Sites of a wavy surface two voxels thick, int32 [N, 4], in lexicographic order."""
    x, y = np.divmod(np.arange(side * side), side)
    z = np.floor(8 + 6 * np.sin(x / 9) * np.cos(y / 7))
    layers = [np.stack([0 * x, x, y, z + up], 1) for up in (0, 1)]
    sites = np.concatenate(layers).astype(np.int32)
    return np.ascontiguousarray(sites[np.lexsort(sites.T[::-1])])


def waves(*shape):
    return np.sin(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)


def address(array):
    return array.ctypes.data


def main(path, isa):
    native = load(path)
    native.set_isa(isa)
    sites = sheet(32)
    rows, width, one = len(sites), CHANNELS, 1
    # a step that has no divisor in common with the number of rows visits each of them
    mixed = sites[np.arange(rows) * 1013 % rows]

    def rulebook(coords):
        a = address(coords)
        return native.rulebook(a, rows, 0, 0, a, rows, CUBE, [one] * 3, True, one)

    def unet(coords):
        levels = native.pyramid(address(coords), rows, 0, 0, True, one)[0]
        for depth in range(4):
            held = address(levels), len(levels), depth
            coords = native.halve(*held, address(coords), len(coords), True, one)[0]

    in_rows, out_rows, segments = rulebook(sites)
    count = len(in_rows)
    x, dense = waves(rows, width), waves(27, width, width)
    y = np.zeros((rows, width), np.float32)
    spread = waves(rows, 27, 4)
    pairs = {
        "in": address(in_rows),
        "out": address(out_rows),
        "segments": address(segments),
        "taps": 27,
        "count": count,
    }

    listed = np.empty(rows + count + 69, np.int64)

    def by_row():
        native.pairs_by_row(num_out=rows, list=address(listed), threads=1, **pairs)

    by_row()

    def conv(weight, groups):
        native.conv(
            dtype=0,
            num_in=rows,
            num_out=rows,
            channels=width,
            width=width,
            groups=groups,
            x=address(x),
            ldx=width,
            weight=address(weight),
            wide_weight=False,
            stride_t=width * width // groups,
            stride_c=width,
            stride_d=1,
            bias=0,
            by_row=address(listed) if groups > 1 else 0,
            mean=0,
            var=0,
            norm_weight=0,
            norm_bias=0,
            eps=0.0,
            residual=0,
            ld_residual=0,
            residual_rows=0,
            residual_counts=0,
            num_residual=0,
            residual_width=0,
            relu=False,
            y=address(y),
            ldy=width,
            threads=1,
            **pairs,
        )

    def weight_gradient(to, groups):
        native.conv_grad_weight(
            dtype=0,
            num_in=rows,
            num_out=rows,
            channels=width,
            width=width,
            groups=groups,
            x=address(x),
            ldx=width,
            g=address(y),
            ldg=width,
            by_row=address(listed) if groups > 1 else 0,
            grad_weight=address(to),
            wide=False,
            threads=1,
            **pairs,
        )

    def tap_sum(transposed):
        native.tap_sum(
            dtype=0,
            num_in=rows,
            num_out=rows,
            channels=width,
            groups=4,
            x=address(x),
            weights=address(spread),
            transposed=transposed,
            y=address(y),
            threads=1,
            **pairs,
        )

    def tap_dot():
        native.tap_dot(
            dtype=0,
            num_in=rows,
            num_out=rows,
            channels=width,
            groups=4,
            a=address(x),
            b=address(x),
            dots=address(spread),
            threads=1,
            **pairs,
        )

    def relation(forward):
        own, total, tap = waves(rows, 8), waves(rows, 8), waves(27, 8)
        shared = {
            "dtype": 0,
            "num_in": rows,
            "num_out": rows,
            "channels": width,
            "groups": 8,
            "x": address(x),
            "query": address(own),
            "key": address(own),
            "prior": address(tap),
            "kind": 0,
            "log_total": address(total),
            "threads": 1,
            **pairs,
        }
        if forward:
            return native.relation_mean(**shared, y=address(y))
        to = waves(rows, width), waves(rows, 8), waves(rows, 8), waves(27, 8)
        names = "grad_x", "grad_query", "grad_key", "grad_prior"
        given = {name: address(value) for name, value in zip(names, to, strict=True)}
        return native.relation_mean_grad(**shared, grad=address(y), **given)

    planes = [int(n) for n in sites[:, 1:].max(0) + 1]
    kernels, few = waves(27 * width + 3 * 9 * sum(planes)), waves(4, width)
    dimensions = {
        "dtype": 0,
        "num_in": rows,
        "num_out": rows,
        "channels": width,
        "coords": address(sites),
        "size": [3, 3, 3],
        "planes": planes,
        "shifts": [-1, 0, 1],
        "axes": [0, 1, 2, 3],
        "x": address(x),
        "join": address(few),
        "threads": one,
        **pairs,
    }

    def dim_conv():
        native.dim_conv(weights=address(kernels), bias=0, y=address(y), **dimensions)

    def dim_conv_grad():
        native.dim_conv_grad(
            g=address(x),
            weights=address(kernels),
            symmetric=True,
            to=address(y),
            to_join=address(few.copy()),
            **dimensions,
        )

    def dim_conv_grad_weight():
        native.dim_conv_grad_weight(g=address(x), to=address(kernels), **dimensions)

    jobs = {
        "nothing": lambda: None,
        "rulebook": lambda: rulebook(sites),
        "rulebook, shuffled": lambda: rulebook(mixed),
        "U-Net rulebooks": lambda: unet(sites),
        "U-Net rulebooks, shuffled": lambda: unet(mixed),
        "forward": lambda: conv(dense, 1),
        "pairs by row": by_row,
        "depthwise": lambda: conv(dense[:, :1], width),
        "depthwise weight gradient": lambda: weight_gradient(dense[:, 0].copy(), width),
        "weight gradient": lambda: weight_gradient(dense, 1),
        "sum over taps": lambda: tap_sum(False),
        "sum over taps, transposed": lambda: tap_sum(True),
        "products of taps": tap_dot,
        "dimensions": dim_conv,
        "dimensions, gradient": dim_conv_grad,
        "dimensions, weight gradient": dim_conv_grad_weight,
        "relation": lambda: relation(True),
        "gradients of a relation": lambda: relation(False),
    }
    print(json.dumps({"rows": rows, "pairs": count, "channels": width}), flush=True)
    for name, job in jobs.items():
        child = os.fork()
        if child == 0:
            job()
            os._exit(0)
        os.waitpid(child, 0)
        print(child, name, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
