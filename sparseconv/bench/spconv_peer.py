"""spconv's CPU path: the same sites, features and weights in its own layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from types import ModuleType

import torch
from torch import Tensor, nn

from sparseconv.bench.ours import LEVELS
from sparseconv.bench.problem import Job, Problem, by_site, ordered_pairs, pairs_by_site
from sparseconv.models.blocks import ResidualBlock
from sparseconv.models.mink_unet import MinkUNet
from sparseconv.nn.conv._base import Convolution


@cache
def load():
    """Import spconv; where torch has several threads, its scatter still gets one.

    Its CPU scatter shares two loop pointers between its threads and adds rows to the wrong places
    whenever more than one runs. Beside torch it runs on torch's OpenMP runtime, whatever its wheel
    brings along, so that `torch.set_num_threads` reaches it. Several threads therefore take its own
    loop in Python over gather, `torch.mm` and scatter, not the same loop in C++: there one thread
    can be asked for around the scatter alone. Its CPU backward asks torch for a CUDA stream that it
    never uses; where torch has no CUDA that raises, so it is given none.
    """
    import spconv.pytorch as spconv
    from spconv.pytorch import ops

    if not torch.cuda.is_available():
        ops.get_current_stream = lambda: 0

    theirs = ops.SpconvOps

    class Held(theirs):
        @staticmethod
        def scatter_add_cpu(*arguments: object) -> None:
            with _threads(1):
                theirs.scatter_add_cpu(*arguments)

    ops.SpconvOps = Held
    for name in ("indice_conv", "indice_conv_backward"):
        setattr(ops, name, _in_its_loop(ops, getattr(ops, name)))
    return spconv


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_its_loop(ops: ModuleType, convolve: Callable) -> Callable:
    @wraps(convolve)
    def call(*arguments: object, **options: object) -> object:
        ops.SPCONV_CPP_GEMM = torch.get_num_threads() == 1
        return convolve(*arguments, **options)

    return call


def _tensor(problem: Problem, features: Tensor):
    return load().SparseConvTensor(features, problem.coords, problem.scene.extent, 1)


def _ours_to_spconv(weight: Tensor, transposed: bool = False) -> Tensor:
    """Return [D, C, kx, ky, kz] (transposed: [C, D, ...]) as spconv's [D, kx, ky, kz, C]."""
    order = (1, 2, 3, 4, 0) if transposed else (0, 2, 3, 4, 1)
    return weight.detach().permute(*order).contiguous()


def _spconv_to_taps(weight: Tensor) -> Tensor:
    """Return [D, kx, ky, kz, C] as [kx, ky, kz, C, D]."""
    return weight.detach().permute(1, 2, 3, 4, 0)


def convert(layer: Convolution, key: str) -> nn.Module:
    """Return spconv's layer of the same geometry and weights.

    Args:
        layer: submanifold, strided or inverse, without bias.
        key: spconv's name for the sites (submanifold) or the step between them (the others).
    """
    spconv = load()
    size = list(layer.kernel_size)
    kind = type(layer).__name__
    native = {"bias": False, "indice_key": key, "algo": spconv.ConvAlgo.Native}
    if kind == "SubMConv3d":
        made = spconv.SubMConv3d(layer.in_channels, layer.out_channels, size, **native)
    elif kind == "SparseConv3d":
        made = spconv.SparseConv3d(
            layer.in_channels, layer.out_channels, size, list(layer.stride), **native
        )
    else:
        made = spconv.SparseInverseConv3d(layer.in_channels, layer.out_channels, size, **native)
    with torch.no_grad():
        made.weight.copy_(_ours_to_spconv(layer.weight, layer.transposed))
    return made


class _Rows(nn.Module):
    """Convolution, then torch's own batch norm (and ReLU) of the rows."""

    def __init__(self, conv: nn.Module, norm: nn.BatchNorm1d, relu: bool) -> None:
        super().__init__()
        self.conv, self.relu = conv, relu
        self.norm = nn.BatchNorm1d(norm.num_features, norm.eps, norm.momentum)
        self.norm.load_state_dict(norm.state_dict())

    def forward(self, x):
        y = self.conv(x)
        rows = self.norm(y.features)
        return y.replace_feature(rows.relu_() if self.relu else rows)


class _Block(nn.Module):
    """A residual block of ours, made of spconv's layers."""

    def __init__(self, block: ResidualBlock, key: str) -> None:
        super().__init__()
        first, second = block.first[0], block.second[0]
        self.first = _Rows(convert(first, key), block.first[1], True)
        self.second = _Rows(convert(second, key), block.second[1], False)
        self.skip = nn.Identity()
        if not isinstance(block.skip, nn.Identity):
            linear, norm = block.skip
            self.skip = nn.Sequential(
                nn.Linear(linear.in_features, linear.out_features, bias=False),
                nn.BatchNorm1d(norm.num_features, norm.eps, norm.momentum),
            )
            self.skip[0].load_state_dict(linear.state_dict())
            self.skip[1].load_state_dict(norm.state_dict())

    def forward(self, x):
        y = self.second(self.first(x))
        return y.replace_feature((y.features + self.skip(x.features)).relu_())


class SpconvUNet(nn.Module):
    """A U-Net of ours, made of spconv's layers with the same weights.

    Args:
        net: the net to copy.
    """

    def __init__(self, net: MinkUNet) -> None:
        super().__init__()
        depth = len(net.down)
        self.stem = nn.ModuleList(_Rows(convert(part[0], "s0"), part[1], True) for part in net.stem)
        self.down = nn.ModuleList(
            _Rows(convert(part[0], f"d{n}"), part[1], True) for n, part in enumerate(net.down)
        )
        self.encode = nn.ModuleList(
            nn.Sequential(*(_Block(block, f"s{n + 1}") for block in stage))
            for n, stage in enumerate(net.encode)
        )
        self.up = nn.ModuleList(
            _Rows(convert(part[0], f"d{depth - 1 - n}"), part[1], True)
            for n, part in enumerate(net.up)
        )
        self.decode = nn.ModuleList(
            nn.Sequential(*(_Block(block, f"s{depth - 1 - n}") for block in stage))
            for n, stage in enumerate(net.decode)
        )
        self.classify = nn.Linear(net.classify.in_features, net.classify.out_features)
        self.classify.load_state_dict(net.classify.state_dict())
        self.train(net.training)

    def forward(self, x) -> Tensor:
        """Return the logits, [N, classes]."""
        for part in self.stem:
            x = part(x)
        skips = []
        for shrink, encode in zip(self.down, self.encode, strict=True):
            skips.append(x)
            x = encode(shrink(x))
        for grow, decode in zip(self.up, self.decode, strict=True):
            grown = grow(x)
            joined = torch.cat([grown.features, skips.pop().features], 1)
            x = decode(grown.replace_feature(joined))
        return self.classify(x.features)


Found = tuple[Tensor, Tensor, Tensor]


def _find_pairs(coords: Tensor, extent: list[int], size: int, stride: int, subm: bool) -> Found:
    """Return output sites, [2, K, N] pairs and their counts."""
    from spconv.pytorch import ops

    one, zero = [1, 1, 1], [0, 0, 0]
    return ops.get_indice_pairs(
        coords,
        1,
        extent,
        load().ConvAlgo.Native,
        [size] * 3,
        [stride] * 3,
        zero,
        one,
        zero,
        subm=subm,
    )


def _all_pairs(found: Found, subm: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return input rows, output rows and taps of every pair, the implied ones included."""
    sites, (in_rows, out_rows), counts = found
    taps, half = len(counts), len(counts) // 2
    if not subm:
        lists = [(in_rows[t, :n], out_rows[t, :n], t) for t, n in enumerate(counts.tolist())]
    else:
        rows = torch.arange(len(sites))
        # the pairs of the centre are implied, those after it are the first half's turned round
        lists = [(rows, rows, half)]
        for tap, count in enumerate(counts[:half].tolist()):
            i, o = in_rows[tap, :count], out_rows[tap, :count]
            lists += [(i, o, tap), (o, i, taps - 1 - tap)]
    parts = [(i.long(), o.long(), torch.full((len(i),), tap)) for i, o, tap in lists]
    i, o, tap = (torch.cat(column) for column in zip(*parts, strict=True))
    return i, o, tap


def _rulebook_job(problem: Problem) -> Job:
    extent = problem.scene.extent

    def run() -> Found:
        return _find_pairs(problem.coords, extent, 3, 1, True)

    return Job(run, lambda found: {"pairs": ordered_pairs(*_all_pairs(found, True))})


def _unet_rulebooks_job(problem: Problem) -> Job:
    extents = [[size >> level for size in problem.scene.extent] for level in range(LEVELS)]

    def run() -> list[tuple[Tensor, Found, bool]]:
        coords, steps = problem.coords, []
        for level, extent in enumerate(extents):
            steps.append((coords, _find_pairs(coords, extent, 3, 1, True), True))
            if level < LEVELS - 1:
                steps.append((coords, _find_pairs(coords, extent, 2, 2, False), False))
                coords = steps[-1][1][0]
        return steps

    def read(steps: list[tuple[Tensor, Found, bool]]) -> dict[str, Tensor]:
        return {
            f"pairs {number}": pairs_by_site(source, found[0], *_all_pairs(found, subm))
            for number, (source, found, subm) in enumerate(steps)
        }

    return Job(run, read)


def _warm(problem: Problem, layer: nn.Module, features: Tensor):
    """Return a tensor that brings the rulebook along."""
    x = _tensor(problem, features)
    with torch.no_grad():
        x.indice_dict = layer(x).indice_dict
    return x


def _conv_job(problem: Problem) -> Job | None:
    if problem.layer.groups > 1 or problem.dtype != torch.float32:
        # its CPU path takes no notice of groups and knows no bfloat16
        return None
    layer = convert(problem.layer, "s0")
    x = _warm(problem, layer, problem.features)

    @torch.no_grad()
    def run() -> Tensor:
        return layer(x).features

    return Job(run, lambda y: by_site(problem.coords, y))


def _gradient_job(problem: Problem) -> Job | None:
    if problem.dtype != torch.float32:
        return None
    layer = convert(problem.layer, "s0")
    features = problem.features.clone().requires_grad_()
    x = _warm(problem, layer, features)

    def run() -> tuple[Tensor, ...]:
        y = layer(x).features
        return (y, *torch.autograd.grad(y, (features, layer.weight), problem.grad))

    def read(results: tuple[Tensor, ...]) -> dict[str, Tensor]:
        y, to_features, to_weight = results
        return {"features": y.detach(), "dx": to_features, "dw": _spconv_to_taps(to_weight)}

    return Job(run, read)


def _down_job(problem: Problem) -> Job:
    layer = convert(problem.layer, "d0")

    @torch.no_grad()
    def run():
        return layer(_tensor(problem, problem.features))

    return Job(run, lambda y: by_site(y.indices, y.features))


def _unet_job(problem: Problem) -> Job:
    net = SpconvUNet(problem.layer)

    @torch.no_grad()
    def run() -> Tensor:
        return net(_tensor(problem, problem.features))

    return Job(run, lambda logits: {"logits": logits})


def _training_job(problem: Problem) -> Job:
    net = SpconvUNet(problem.layer)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.0)

    def run() -> Tensor:
        optimiser.zero_grad()
        logits = net(_tensor(problem, problem.features))
        loss = nn.functional.cross_entropy(logits, problem.labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    def read(loss: Tensor) -> dict[str, Tensor]:
        return {
            "loss": loss,
            "stem dw": _spconv_to_taps(net.stem[0].conv.weight.grad),
            "classifier dw": net.classify.weight.grad,
        }

    return Job(run, read)


JOBS: dict[str, Callable[[Problem], Job | None]] = {
    "rulebook": _rulebook_job,
    "unet-rulebooks": _unet_rulebooks_job,
    "conv": _conv_job,
    "shuffled": _conv_job,
    "gradient": _gradient_job,
    "down": _down_job,
    "unet": _unet_job,
    "fused": _unet_job,
    "unet-bfloat16": _unet_job,
    "fused-bfloat16": _unet_job,
    "training": _training_job,
    "training-bfloat16": _training_job,
}
