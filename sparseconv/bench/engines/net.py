"""A U-Net of ours, made of another library's layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparseconv.bench.engines.engine import Engine
from sparseconv.models.blocks import ResidualBlock
from sparseconv.models.mink_unet import MinkUNet


class _Rows(nn.Module):
    """Convolution, then torch's own batch norm (and ReLU) of the rows."""

    def __init__(self, engine: Engine, conv: nn.Module, norm: nn.BatchNorm1d, relu: bool) -> None:
        super().__init__()
        self.engine, self.conv, self.relu = engine, conv, relu
        self.norm = nn.BatchNorm1d(norm.num_features, norm.eps, norm.momentum)
        self.norm.load_state_dict(norm.state_dict())

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        rows = self.norm(self.engine.rows(y))
        return self.engine.with_rows(y, rows.relu_() if self.relu else rows)


class _Block(nn.Module):
    """A residual block of ours."""

    def __init__(self, engine: Engine, block: ResidualBlock, key: str) -> None:
        super().__init__()
        self.engine = engine
        first, second = block.first[0], block.second[0]
        self.first = _Rows(engine, engine.convert(first, key), block.first[1], True)
        self.second = _Rows(engine, engine.convert(second, key), block.second[1], False)
        self.skip = nn.Identity()
        if not isinstance(block.skip, nn.Identity):
            linear, norm = block.skip
            self.skip = nn.Sequential(
                nn.Linear(linear.in_features, linear.out_features, bias=False),
                nn.BatchNorm1d(norm.num_features, norm.eps, norm.momentum),
            )
            self.skip[0].load_state_dict(linear.state_dict())
            self.skip[1].load_state_dict(norm.state_dict())

    def forward(self, x: Any) -> Any:
        y = self.second(self.first(x))
        rows, skipped = self.engine.rows(y), self.skip(self.engine.rows(x))
        return self.engine.with_rows(y, (rows + skipped).relu_())


class EngineUNet(nn.Module):
    """A U-Net of ours with another library's layers and the same weights.

    Args:
        engine: the other library.
        net: the net to copy.
    """

    def __init__(self, engine: Engine, net: MinkUNet) -> None:
        super().__init__()
        self.engine, depth = engine, len(net.down)

        def rows(part: nn.Sequential, key: str) -> _Rows:
            return _Rows(engine, engine.convert(part[0], key), part[1], True)

        def blocks(stage: nn.Sequential, key: str) -> nn.Sequential:
            return nn.Sequential(*(_Block(engine, block, key) for block in stage))

        levels, back = range(depth), range(depth - 1, -1, -1)
        self.stem = nn.ModuleList(rows(part, "s0") for part in net.stem)
        self.down = nn.ModuleList(rows(net.down[n], f"d{n}") for n in levels)
        self.encode = nn.ModuleList(blocks(net.encode[n], f"s{n + 1}") for n in levels)
        self.up = nn.ModuleList(rows(part, f"d{n}") for n, part in zip(back, net.up, strict=True))
        self.decode = nn.ModuleList(
            blocks(stage, f"s{n}") for n, stage in zip(back, net.decode, strict=True)
        )
        self.classify = nn.Linear(net.classify.in_features, net.classify.out_features)
        self.classify.load_state_dict(net.classify.state_dict())
        self.train(net.training)

    def forward(self, x: Any) -> Tensor:
        """Return the logits, [N, classes], at the sites of `x`."""
        for part in self.stem:
            x = part(x)
        skips = []
        for shrink, encode in zip(self.down, self.encode, strict=True):
            skips.append(x)
            x = encode(shrink(x))
        for grow, decode in zip(self.up, self.decode, strict=True):
            grown = grow(x)
            joined = [self.engine.rows(grown), self.engine.rows(skips.pop())]
            x = decode(self.engine.with_rows(grown, torch.cat(joined, 1)))
        return self.classify(self.engine.rows(x))
