"""Batch normalisation over active sites."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

from sparseconv.ops.norm import Learned, Normalize, batch_norm, norm_apply
from sparseconv.tensor.sparse_tensor import SparseTensor


class BatchNorm(nn.BatchNorm1d):
    """Normalise each channel over all active sites of the batch.

    `y = (x - mean) / sqrt(var + eps) * weight + bias`, as `torch.nn.BatchNorm1d` of the features,
    whose state dict it shares. With fewer than two rows, where torch raises or stores NaN, a
    variance has no meaning: the running statistics are used and left alone.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the new statistics; None for a cumulative average.
        affine: whether to scale and shift.
        track_running_stats: whether to keep statistics for evaluation.
        device: where the parameters live.
        dtype: dtype of the parameters.

    Source:
        Ioffe and Szegedy, "Batch Normalization", arXiv:1502.03167.
    """

    def forward(
        self,
        x: SparseTensor | Tensor,  # [N, C]
        *,
        add: SparseTensor | Tensor | None = None,  # [N, C]
        relu: bool = False,
    ) -> SparseTensor | Tensor:  # [N, C]
        """Return the normalised tensor, sparse or plain as given.

        Args:
            x: what is normalised.
            add: added to the result, row by row.
            relu: whether to clip the sum below at 0. Both are done in the pass that normalises.
        """
        features = x.features if isinstance(x, SparseTensor) else x
        other = add.features if isinstance(add, SparseTensor) else add
        self._check_input_dim(features)
        # an op of fixed sizes knows its row count, a traced graph does not
        traced = torch.compiler.is_compiling()
        ours = not traced and features.dim() == 2 and features.device.type == "cpu"
        fits = other is None or (other.dtype, other.shape) == (features.dtype, features.shape)
        if ours and fits and (features.shape[0] > 1 or self.running_mean is not None):
            y = self._fused(features, other, relu)
        else:
            y = self._traced(features) if traced else self._of_torch(features)
            y = y if other is None else y + other
            y = y.relu() if relu else y
        return x.replace(features=y) if isinstance(x, SparseTensor) else y

    def known(self, rows: int) -> Normalize | None:
        """Return what normalises so many rows, None where their own statistics are wanted.

        Args:
            rows: N.
        """
        # without torch's own look-up of attributes, a tenth of what a layer does in Python
        kept, learned = self._buffers, self._parameters
        mean = kept["running_mean"]
        if mean is None or (self.training and rows > 1):
            return None
        return Normalize(mean, kept["running_var"], learned["weight"], learned["bias"], self.eps)

    def learned(self) -> Learned:
        """Return what acts on rows that are normalised by their own statistics."""
        return Learned(self._parameters["weight"], self._parameters["bias"], self.eps)

    def track(
        self,
        mean: Tensor,  # [C]
        var: Tensor,  # [C]
        rows: int,
    ) -> None:
        """Move the running statistics towards those of so many rows, while training.

        Args:
            mean: of the rows.
            var: likewise, biased.
            rows: N.
        """
        kept = self._buffers
        if not self.training or kept["running_mean"] is None:
            return
        kept["num_batches_tracked"].add_(1)
        momentum = self._momentum()
        with torch.no_grad():
            for name, value in (("running_mean", mean), ("running_var", var)):
                running = kept[name]
                value = value if value.dtype == running.dtype else value.to(running.dtype)
                if name == "running_var":
                    value = value * (rows / (rows - 1))
                running.lerp_(value, momentum)

    def _fused(self, x: Tensor, other: Tensor | None, relu: bool) -> Tensor:
        if not self._uses_batch(x.shape[0]):
            given = (self.running_mean, self.running_var, self.weight, self.bias)
            return norm_apply(x, *given, other, eps=self.eps, relu=relu)
        y, mean, var = batch_norm(x, self.weight, self.bias, other, eps=self.eps, relu=relu)
        self.track(mean, var, x.shape[0])
        return y

    def _uses_batch(self, rows: int) -> bool:
        return (self.training or self.running_mean is None) and rows > 1

    def _of_torch(self, x: Tensor) -> Tensor:
        tracked, use_batch = self.running_mean is not None, self._uses_batch(x.shape[0])
        if not use_batch and not tracked:
            return x * 0 if self.bias is None else x * 0 + self.bias
        momentum = 0.0
        if use_batch and self.training and tracked:
            self.num_batches_tracked.add_(1)
            momentum = self._momentum()
        return dense.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_batch,
            momentum,
            self.eps,
        )

    def _momentum(self) -> float:
        if self.momentum is not None:
            return self.momentum
        return 1.0 / float(self.num_batches_tracked)

    def _traced(self, x: Tensor) -> Tensor:
        tracked = self.running_mean is not None
        mean, var = self.running_mean, self.running_var
        if self.training or not tracked:
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            count = torch.ones_like(wide[:, :1]).sum()
            enough = count > 1
            batch_mean = wide.sum(0) / count.clamp(min=1)
            batch_var = (wide - batch_mean).square().sum(0) / count.clamp(min=1)
            if tracked and self.training:
                unbiased = batch_var * count / (count - 1).clamp(min=1)
                step = self.momentum
                if step is None:
                    step = 1.0 / (self.num_batches_tracked + 1)
                new_mean = mean + step * (batch_mean.detach() - mean)
                new_var = var + step * (unbiased.detach() - var)
                batch_mean = torch.where(enough, batch_mean, mean)
                batch_var = torch.where(enough, batch_var, var)
                self.num_batches_tracked.add_(enough)
                self.running_mean.copy_(torch.where(enough, new_mean, mean))
                self.running_var.copy_(torch.where(enough, new_var, var))
            mean, var = batch_mean, batch_var
        y = (x - mean) * torch.rsqrt(var + self.eps)
        if self.weight is not None:
            y = y * self.weight + self.bias
        return y.to(x.dtype)
