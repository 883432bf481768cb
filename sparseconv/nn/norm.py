"""Batch normalisation over active sites."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as dense

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
    ) -> SparseTensor | Tensor:  # [N, C]
        """Return the normalised tensor, sparse or plain as given."""
        features = x.features if isinstance(x, SparseTensor) else x
        self._check_input_dim(features)
        # torch's kernel looks at the row count, which a traced graph does not know
        traced = torch.compiler.is_compiling()
        y = self._traced(features) if traced else self._eager(features)
        return x.replace(features=y) if isinstance(x, SparseTensor) else y

    def _eager(self, x: Tensor) -> Tensor:
        tracked = self.running_mean is not None
        few = x.shape[0] < 2
        use_batch = (self.training or not tracked) and not few
        if few and not tracked:
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

    def _momentum(self) -> float | Tensor:
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
