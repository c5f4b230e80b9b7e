"""Whole subnets in NumPy float64 at exactly their sizes, from the papers' formulas.

Nothing of what the package computes with is used, only a supernet's parameters, the choices of its
stages and the sizes of a subnet. Sources: MBConv (arXiv 1801.04381) with squeeze and excite (arXiv
1709.01507) and hard-swish (arXiv 1905.02244); ElasticViT (arXiv 2303.09730) for attention with
wide values behind a depthwise convolution, and LeViT (arXiv 2104.01136) for its position biases.
A subnet uses the first channels of every axis and the middle of every kernel (arXiv 1908.09791).

Shape letters: B batch, S side, C channels, D width, N heads, K kernel.
"""

import jax
import numpy as np

from loomax.models.elastic.config import ConvStageConfig


def logits(config, params, sizes, images):
    """Scores [B, classes]; batch normalisation by the batch's own statistics."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = np.asarray(images, np.float64)
    for choice, own, stage in zip(config.stages, p["stages"], sizes.stages, strict=True):
        conv = isinstance(choice, ConvStageConfig)
        start = 0
        if conv and choice.opening:
            x = opening(own["first"], x, stage.width, choice.stride)
        elif conv:
            x = block(own["first"], choice, x, stage.width, (stage.kernel[0], stage.hidden[0]))
            start = 1
        else:
            x = block(own["first"], choice, x, stage.width, (choice.kernel, 0))
        for layer in range(start, stage.depth):
            parts = jax.tree.map(lambda leaf, at=layer - start: leaf[at], own["layers"])
            if conv:
                after = (stage.kernel[layer], stage.hidden[layer])
                x = block(parts[0], choice, x, stage.width, after, stride=1)
                continue
            x = attention(parts[0], choice, x, stage.heads[layer], stage.values[layer])
            x = feed_forward(parts[1], x, stage.hidden[layer])
    return head(config, p["head"], x)


def hard_sigmoid(x):
    return np.clip(x + 3, 0, 6) / 6


def hard_swish(x):
    return x * hard_sigmoid(x)


def batch_norm(p, name, x):
    width, centred = x.shape[-1], x - x.mean((0, 1, 2))
    scale, bias = p[f"{name}_scale"][:width], p[f"{name}_bias"][:width]
    return centred / np.sqrt((centred**2).mean((0, 1, 2)) + 1e-5) * scale + bias


def layer_norm(p, x):
    width, centred = x.shape[-1], x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return y * p["norm_scale"][:width] + p["norm_bias"][:width]


def windows(x, taps, stride):
    """What an output pixel sees under TensorFlow's SAME padding: [B, R, R, taps, taps, C]."""
    side = x.shape[1]
    count = -(-side // stride)
    missing = max((count - 1) * stride + taps - side, 0)
    before = missing // 2
    x = np.pad(x, ((0, 0), (before, missing - before), (before, missing - before), (0, 0)))
    rows = [
        [x[:, i : i + taps, j : j + taps] for j in range(0, count * stride, stride)]
        for i in range(0, count * stride, stride)
    ]
    return np.array(rows).transpose(2, 0, 1, 3, 4, 5)


def middle(kernel, size):
    start = (len(kernel) - size) // 2
    return kernel[start : start + size, start : start + size]


def opening(p, x, width, stride):
    kernel = p["conv"][:, :, : x.shape[-1], :width]
    y = np.einsum("brsijc,ijcd->brsd", windows(x, len(kernel), stride), kernel)
    return hard_swish(batch_norm(p, "conv", y))


def depthwise(x, kernel, stride):
    return np.einsum("brsijc,ijc->brsc", windows(x, len(kernel), stride), kernel)


def block(p, choice, x, width, sizes, stride=None):
    """MBConv; without a hidden width of its own it has `expand` times its input's."""
    stride = choice.stride if stride is None else stride
    kernel, hidden = sizes
    hidden = hidden or choice.expand * x.shape[-1]
    y = x
    if "expand" in p:
        y = hard_swish(batch_norm(p, "expand", y @ p["expand"][: x.shape[-1], :hidden]))
    y = depthwise(y, middle(p["depthwise"], kernel)[:, :, 0, :hidden], stride)
    y = hard_swish(batch_norm(p, "depthwise", y))
    if choice.squeeze:
        inner = hidden // choice.squeeze
        z = np.maximum(y.mean((1, 2)) @ p["down"][:hidden, :inner] + p["down_bias"][:inner], 0)
        y = y * hard_sigmoid(z @ p["up"][:inner, :hidden] + p["up_bias"][:hidden])[:, None, None]
    y = batch_norm(p, "project", y @ p["project"][:hidden, :width])
    if stride > 1:
        # Of border pixels only those inside of the image count.
        seen = windows(np.ones_like(x), stride, stride).sum((3, 4))
        x = windows(x, stride, stride).sum((3, 4)) / seen
    return y + (x if x.shape[-1] == width else x @ p["shortcut"][: x.shape[-1], :width])


def attention(p, choice, x, heads, values):
    batch, side, _, width = x.shape
    value, y = values // heads, layer_norm(p, x)
    tokens = y.reshape(batch, side * side, width)
    q, k = (
        np.einsum("btd,dnh->btnh", tokens, p[name][:width, :heads]) for name in ("query", "key")
    )
    v = np.einsum("brsd,dnv->brsnv", y, p["value"][:width, :heads, :value])
    if choice.value_kernel:
        kernel = p["value_conv"][:, :, :heads, :value]
        flat = v.reshape(batch, side, side, -1)
        v = depthwise(flat, kernel.reshape(*kernel.shape[:2], -1), 1)
    v = v.reshape(batch, side * side, heads, value)
    scores = np.einsum("bqnh,bsnh->bnqs", q, k) / np.sqrt(choice.head_dim)
    if choice.bias:
        centre = len(p["position"]) // 2
        for one, two in np.ndindex(side * side, side * side):
            down, right = one // side - two // side, one % side - two % side
            scores[:, :, one, two] += p["position"][centre + down, centre + right, :heads]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = hard_swish(np.einsum("bnqs,bsnv->bqnv", weights, v)).reshape(batch, side, side, -1)
    out = p["output"][:heads, :value, :width].reshape(-1, width)
    return x + mixed @ out + p["output_bias"][:width]


def feed_forward(p, x, hidden):
    width = x.shape[-1]
    y = hard_swish(layer_norm(p, x) @ p["up"][:width, :hidden] + p["up_bias"][:hidden])
    return x + y @ p["down"][:hidden, :width] + p["down_bias"][:width]


def head(config, p, x):
    """1x1 convolution, mean over pixels, a layer, classes."""
    if config.expand:
        hidden = config.expand * x.shape[-1]
        x = x @ p["expand"][: x.shape[-1], :hidden] + p["expand_bias"][:hidden]
        x = hard_swish(layer_norm(p, x))
    y = x.mean((1, 2))
    if config.features:
        y = hard_swish(y @ p["features"][: y.shape[-1]] + p["features_bias"])
    return y @ p["classes"][: y.shape[-1]] + p["classes_bias"]
