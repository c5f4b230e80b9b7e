"""The same elastic model in PyTorch, eager: modules that slice their weights for each subnet.

How the published supernets are built (OFA, AlphaNet, AutoFormer). It starts from our parameters,
so that its loss can be compared with ours.
"""

import time
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F

from loomax.models.elastic.config import ConvStageConfig, SupernetConfig
from loomax.models.elastic.leaves import cut
from loomax.models.elastic.plan import (
    first_sizes,
    head_plan,
    head_sizes,
    layer_at,
    layer_sizes,
    stage_plans,
)
from loomax.models.elastic.sizes import freeze

Weights = dict[str, Any]


def batch_norm(x: torch.Tensor, p: Weights, name: str) -> torch.Tensor:
    return F.batch_norm(x, None, None, p[f"{name}_scale"], p[f"{name}_bias"], True, eps=1e-5)


def convolve(x: torch.Tensor, kernel: torch.Tensor, stride: int, groups: int = 1) -> torch.Tensor:
    """As JAX pads "SAME": more behind than before."""
    taps, side = kernel.shape[0], x.shape[-1]
    missing = max((-(-side // stride) - 1) * stride + taps - side, 0)
    padded = F.pad(x, (missing // 2, missing - missing // 2) * 2)
    return F.conv2d(padded, kernel.permute(3, 2, 0, 1), stride=stride, groups=groups)


def pointwise(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, kernel.T[..., None, None])


def mbconv(p: Weights, x: torch.Tensor, stride: int) -> torch.Tensor:
    y = x
    if "expand" in p:
        y = F.hardswish(batch_norm(pointwise(y, p["expand"]), p, "expand"))
    y = convolve(y, p["depthwise"], stride, groups=y.shape[1])
    y = F.hardswish(batch_norm(y, p, "depthwise"))
    if "down" in p:
        z = F.relu(y.mean((2, 3)) @ p["down"] + p["down_bias"])
        y = y * F.hardsigmoid(z @ p["up"] + p["up_bias"])[..., None, None]
    y = batch_norm(pointwise(y, p["project"]), p, "project")
    skip = F.avg_pool2d(x, stride, stride, ceil_mode=True) if stride > 1 else x
    return y + (skip if skip.shape[1] == y.shape[1] else pointwise(skip, p["shortcut"]))


def layer_norm(x: torch.Tensor, p: Weights) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], p["norm_scale"], p["norm_bias"], 1e-6)


def attention(p: Weights, x: torch.Tensor) -> torch.Tensor:
    """Tokens are [batch, side, side, width]."""
    batch, side, _, width = x.shape
    heads = p["query"].shape[1]
    y = layer_norm(x, p).reshape(batch, side * side, width)
    q, k, v = (torch.einsum("btd,dnh->bnth", y, p[n]) for n in ("query", "key", "value"))
    if "value_conv" in p:
        maps = v.permute(0, 1, 3, 2).reshape(batch, -1, side, side)
        taps = p["value_conv"]
        maps = convolve(maps, taps.reshape(*taps.shape[:2], 1, -1), 1, groups=maps.shape[1])
        v = maps.reshape(batch, heads, -1, side * side).permute(0, 1, 3, 2)
    bias = None
    if "position" in p:
        row, column = torch.arange(side * side) // side, torch.arange(side * side) % side
        middle = p["position"].shape[0] // 2
        rows, columns = row[:, None] - row + middle, column[:, None] - column + middle
        bias = p["position"][rows, columns].permute(2, 0, 1)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    mixed = F.hardswish(mixed).permute(0, 2, 1, 3).reshape(*x.shape[:3], -1)
    return x + mixed @ p["output"].reshape(-1, width) + p["output_bias"]


def feed_forward(p: Weights, x: torch.Tensor) -> torch.Tensor:
    y = F.hardswish(layer_norm(x, p) @ p["up"] + p["up_bias"])
    return x + y @ p["down"] + p["down_bias"]


def head(p: Weights, x: torch.Tensor) -> torch.Tensor:
    if "expand" in p:
        x = F.hardswish(layer_norm(x @ p["expand"] + p["expand_bias"], p))
    y = x.mean((1, 2))
    if "features" in p:
        y = F.hardswish(y @ p["features"] + p["features_bias"])
    return y @ p["classes"] + p["classes_bias"]


class ElasticModel:
    """All parameters, and a step of any net."""

    def __init__(self, config: SupernetConfig, parameters: Any):
        self.config = config
        leaves, tree = jax.tree.flatten(parameters)
        self.leaves = [torch.nn.Parameter(torch.from_numpy(np.array(leaf))) for leaf in leaves]
        self.parameters = jax.tree.unflatten(tree, self.leaves)
        self.optimiser = torch.optim.AdamW(self.leaves, lr=1e-3)

    def logits(self, sizes: Any, images: torch.Tensor) -> torch.Tensor:
        """Of images [batch, side, side, channels]."""
        sizes, width = freeze(sizes), self.config.channels
        x = images.permute(0, 3, 1, 2)
        stages = zip(stage_plans(self.config), self.parameters["stages"], sizes.stages, strict=True)
        for plan, p, stage in stages:
            own = cut(plan.first.leaves, p["first"], first_sizes(plan.config, width, stage))
            if "conv" in own:
                x = convolve(x, own["conv"], plan.config.stride)
                x = F.hardswish(batch_norm(x, own, "conv"))
            else:
                x = mbconv(own, x, plan.config.stride)
            width, is_conv = stage.width, isinstance(plan.config, ConvStageConfig)
            x = x if is_conv else x.permute(0, 2, 3, 1)
            for index in range(plan.start, stage.depth):
                at = layer_sizes(plan.config, layer_at(stage, index))
                layer = [{k: v[index - plan.start] for k, v in q.items()} for q in p["layers"]]
                rows = zip(plan.layers, layer, at, strict=True)
                owns = [cut(operator.leaves, held, size) for operator, held, size in rows]
                x = (
                    mbconv(owns[0], x, 1)
                    if is_conv
                    else feed_forward(owns[1], attention(owns[0], x))
                )
            x = x if is_conv else x.permute(0, 3, 1, 2)
        last = head_plan(self.config)
        own = cut(last.leaves, self.parameters["head"], head_sizes(self.config, width))
        return head(own, x.permute(0, 2, 3, 1))

    def timed(self, sizes: Any, images: Any, labels: Any):
        """A function that runs one step and returns CPU seconds."""
        given = torch.from_numpy(np.array(images))
        wanted = torch.from_numpy(np.array(labels)).long()

        def run() -> float:
            start = time.process_time()
            self.optimiser.zero_grad()
            loss = F.cross_entropy(self.logits(sizes, given), wanted, label_smoothing=0.1)
            loss.backward()
            self.optimiser.step()
            return time.process_time() - start

        return run
