"""Whole language models in NumPy float64, token by token, from the papers' formulas.

Written for reading, with nothing of what the package computes with: only its parameters and the
numbers of its configuration. Sources: YOCO (arXiv 2405.05254, section 3), Gated DeltaNet (arXiv
2412.06464, sections 3 and 3.4), GQA (arXiv 2305.13245), DeepSeek-V2 (arXiv 2405.04434, section
2.1), SwiGLU (arXiv 2002.05202), RoPE (arXiv 2104.09864).

Shape letters: T tokens, D width, N heads, H head width.
"""

import jax
import numpy as np


def logits(config, params, tokens):
    """Scores [T, V] of one row of tokens."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = p["embedding"][tokens] * np.sqrt(config.width)
    for _ in range(config.loops):
        first = None
        for layer in range(config.self_layers):
            own = at(p["self_layers"], layer)
            share = p["kv_share"][layer] if config.kv_residual else None
            y, first = mix(config, own["mixer"], rms(config, x, own["mixer_norm"]), first, share)
            x = swiglu(config, own, x + y)
    if config.cross_layers:
        shared = p["shared_kv"]
        y = rms(config, x, shared["norm"])
        keys, values = (heads(y @ shared[name], config.kv_heads) for name in ("k", "v"))
        keys = rotate(config, keys) if config.cross_rope else keys
        for layer in range(config.cross_layers):
            own = at(p["cross_layers"], layer)
            q = heads(rms(config, x, own["mixer_norm"]) @ own["mixer"]["q"], config.heads)
            q = rotate(config, q) if config.cross_rope else q
            y = attention(q, keys, values, config.head_dim**-0.5)
            x = swiglu(config, own, x + y @ own["mixer"]["out"])
    head = p["embedding"].T if config.tied else p["head"]
    return rms(config, x, p["norm"]) @ head


def at(tree, layer):
    return jax.tree.map(lambda leaf: leaf[layer], tree)


def rms(config, x, scale=1.0):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.epsilon) * scale


def silu(x):
    return x / (1 + np.exp(-x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swiglu(config, own, x):
    y, h = rms(config, x, own["hidden_norm"]), own["hidden"]
    return x + (silu(y @ h["gate"]) * (y @ h["up"])) @ h["down"]


def heads(x, count):
    return x.reshape(len(x), count, -1)


def rotate(config, x):
    """Pair (i, i + H/2) as a complex number, turned by its position times theta^-e."""
    rope, half = config.rope, x.shape[-1] // 2
    if not rope.theta:
        return x
    ends = {"standard": half, "yoco": half - 1}[rope.spacing]
    speed = rope.theta ** -(np.arange(half) / ends)
    z = x[..., :half] + 1j * x[..., half:]
    z = z * np.exp(1j * np.arange(len(x))[:, None] * speed)[:, None]
    return np.concatenate([z.real, z.imag], -1)


def attention(q, k, v, scale, window=None):
    """Causal softmax attention; N / K query heads share a key-value head. [T, N H]"""
    group, out = q.shape[1] // k.shape[1], np.zeros((len(q), q.shape[1], v.shape[-1]))
    for t in range(len(q)):
        begin = 0 if window is None else max(0, t - window + 1)
        for n in range(q.shape[1]):
            scores = scale * k[begin : t + 1, n // group] @ q[t, n]
            weights = np.exp(scores - scores.max())
            out[t, n] = weights / weights.sum() @ v[begin : t + 1, n // group]
    return out.reshape(len(q), -1)


def mix(config, p, x, first, share):
    """A self layer's mixer; `first` are the first layer's keys and values (YOCO++)."""
    if config.mixer == "mla":
        return latent_attention(config, p, x), None
    if config.mixer == "gated_deltanet":
        return gated_deltanet(config, p, x), None
    full = config.mixer == "attention"
    count = config.heads if full else config.mixer_heads
    q = heads(x @ p["q"], count)
    k, v = (heads(x @ p[name], config.kv_heads if full else count) for name in ("k", "v"))
    if config.mixer != "gated_retention":
        q, k = rotate(config, q), rotate(config, k)
    if share is not None:
        if first is None:
            first = (k, v)
        else:
            k, v = k + share[0] * first[0], v + share[1] * first[1]
    if config.mixer == "gated_retention":
        return gated_retention(config, p, x, rotate(config, q), rotate(config, k), v), first
    window = None if full else config.window
    return attention(q, k, v, q.shape[-1] ** -0.5, window) @ p["out"], first


def gated_retention(config, p, x, q, k, v):
    """S_t = gamma_t S_{t-1} + k_t^T v_t / sqrt(H), y_t = q_t S_t, gamma = sigmoid(x W)^(1/tau)."""
    gamma = sigmoid(x @ p["decay"]) ** (1 / config.tau)
    size = q.shape[-1]
    state, y = np.zeros((q.shape[1], size, size)), np.zeros(v.shape)
    for t in range(len(x)):
        for n in range(q.shape[1]):
            state[n] = gamma[t, n] * state[n] + np.outer(k[t, n], v[t, n]) / np.sqrt(size)
            y[t, n] = q[t, n] @ state[n]
    y = rms(config, y).reshape(len(x), -1)
    return (silu(x @ p["gate"]) * y) @ p["out"]


def gated_deltanet(config, p, x):
    """S_t = alpha_t (I - beta_t k_t^T k_t) S_{t-1} + beta_t k_t^T v_t behind short convolutions."""
    count, size, width = config.mixer_heads, config.mixer_head_dim, config.value_width
    inputs = np.concatenate([np.zeros((config.conv - 1, p["qkv"].shape[1])), x @ p["qkv"]])
    taps = p["taps"]
    convolved = [(taps * inputs[t : t + config.conv]).sum(0) for t in range(len(x))]
    convolved = silu(np.array(convolved))
    ends = (count * size, 2 * count * size)
    q, k, v = (heads(part, count) for part in np.split(convolved, ends, -1))
    q, k = (y / np.sqrt((y**2).sum(-1, keepdims=True) + 1e-6) for y in (q, k))
    beta = sigmoid(x @ p["beta"]) * (2 if config.delta.negative else 1)
    speed = np.log1p(np.exp(x @ p["decay"] + p["decay_bias"]))
    alpha = np.exp(-np.exp(p["log_rate"]) * speed)
    state, y = np.zeros((count, size, width)), np.zeros((len(x), count, width))
    for t in range(len(x)):
        for n in range(count):
            move = np.eye(size) - beta[t, n] * np.outer(k[t, n], k[t, n])
            state[n] = alpha[t, n] * move @ state[n] + beta[t, n] * np.outer(k[t, n], v[t, n])
            y[t, n] = q[t, n] @ state[n] / np.sqrt(size)
    y = rms(config, y) * p.get("output_norm", 1.0)
    return (silu(x @ p["gate"]) * y.reshape(len(x), -1)) @ p["out"]


def latent_attention(config, p, x):
    """Keys and values of every head from a normalised latent, and one rotary key for all."""
    m, count = config.mla, config.heads
    q = heads(x @ p["q"], count)
    down = x @ p["down"]
    latent = rms(config, down[:, : m.latent])
    shared = rotate(config, down[:, None, m.latent :])
    turned = rotate(config, q[..., m.nope :])
    q = np.concatenate([q[..., : m.nope], turned], -1)
    k = np.concatenate([heads(latent @ p["up_k"], count), np.repeat(shared, count, axis=1)], -1)
    v = heads(latent @ p["up_v"], count)
    return attention(q, k, v, (m.nope + m.rope) ** -0.5) @ p["out"]
