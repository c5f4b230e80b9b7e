"""pi0 and pi0.5 in NumPy float64, all tokens in one pass, from the papers' formulas.

Nothing of what the package computes with is used, only its parameters and the numbers of its
configuration. Sources: pi0 (arXiv 2410.24164, sections IV and appendix B), PaliGemma (arXiv
2407.07726), Gemma (arXiv 2403.08295), SigLIP (arXiv 2303.15343), adaRMS as in DiT (arXiv
2212.09748) and openpi's `pi0.py`. The state token may read the trunk's output, and key points are
where a softmax over an image's cells points; both are ours.

Shape letters: S tokens, D width, N heads, K key-value heads, H head width.
"""

import jax
import numpy as np


def velocity(config, params, obs, x, t):
    """Velocity [H, A] of one sample, noise minus action, and what it is read from [H, W]."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    before, valid = prefix_tokens(config, p, obs)
    found = trunk_alone(config, p, before, valid)
    after, blocks, cond = suffix_tokens(config, p, found, obs.get("state"), x, t)
    prefix, blocks = len(before), np.concatenate([np.zeros(len(before), int), blocks])
    valid = np.concatenate([valid, np.ones(len(after), bool)])
    positions = np.cumsum(valid) - 1
    mask = valid[None, :] & (blocks[None, :] <= blocks[:, None])
    for layer in range(config.depth):
        trunk, expert = at(p["trunk"], layer), at(p["expert"], layer)
        own = [qkv(config, trunk, before, None), qkv(config, expert, after, cond)]
        q, k, v = (np.concatenate([one[i] for one in own]) for i in range(3))
        mixed = attention(rotate(q, positions), rotate(k, positions), v, mask)
        before = close(config, trunk, before, mixed[:prefix], own[0][3], None)
        after = close(config, expert, after, mixed[prefix:], own[1][3], cond)
    h, _ = norm(config, p["expert_norm"], after[-config.horizon :], cond)
    return dense(p["action_out_proj"], h), h


def at(tree, layer):
    return jax.tree.map(lambda leaf: leaf[layer], tree)


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def mlp(layers, x):
    """Dense layers with ReLU between them; their numbers are the keys."""
    for number in range(len(layers)):
        x = dense(layers[number], np.maximum(x, 0) if number else x)
    return x


# ------------------------------------------------------------------------------------- Gemma


def norm(config, p, x, cond):
    """RMSNorm with scale 1 + w, or scale, shift and gate from the condition."""
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon)
    if "scale" in p:
        return x * (1 + p["scale"]), 1.0
    scale, shift, gate = np.split(dense(p, cond), 3)
    return x * (1 + scale) + shift, gate


def qkv(config, p, x, cond):
    """Queries [S, N, H], keys and values [S, K, H] before rotation, and the branch's gate."""
    y, gate = norm(config, p["pre_attention_norm"], x, cond)
    q = np.einsum("sd,ndh->snh", y, p["q"])
    keys, values = (np.einsum("sd,kdh->skh", y, p["kv"][i]) for i in (0, 1))
    return q, keys, values, gate


def rotate(x, positions):
    half = x.shape[-1] // 2
    angle = positions[:, None] / 10_000 ** (np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)[:, None]
    return np.concatenate([z.real, z.imag], -1)


def attention(q, k, v, mask):
    out = np.zeros(q.shape)
    for n in range(q.shape[1]):
        shared = n // (q.shape[1] // k.shape[1])
        scores = q[:, n] @ k[:, shared].T / np.sqrt(q.shape[-1])
        out[:, n] = softmax(np.where(mask, scores, -1e30)) @ v[:, shared]
    return out


def close(config, p, x, mixed, gate, cond):
    """Attention's output and the GeGLU, whose first matrix is the one behind the GELU."""
    x = x + gate * np.einsum("snh,nhd->sd", mixed, p["out"])
    y, gate = norm(config, p["pre_ffw_norm"], x, cond)
    return x + gate * ((gelu(y @ p["gating"][0]) * (y @ p["gating"][1])) @ p["linear"])


def trunk_alone(config, p, x, valid):
    """The prefix through the trunk and its last norm."""
    mask, positions = np.broadcast_to(valid, (len(x), len(x))), np.cumsum(valid) - 1
    for layer in range(config.depth):
        own = at(p["trunk"], layer)
        q, k, v, gate = qkv(config, own, x, None)
        mixed = attention(rotate(q, positions), rotate(k, positions), v, mask)
        x = close(config, own, x, mixed, gate, None)
    return norm(config, p["trunk_norm"], x, None)[0]


# ------------------------------------------------------------------------------------- tokens


def prefix_tokens(config, p, obs):
    """Images, the state where the prefix has it, the instruction, the read-out."""
    text = p["embedding"][obs["tokens"]] * np.sqrt(config.width)
    parts, valid = [], []
    for camera in config.cameras:
        # Pixels 0 .. 255 become -1 .. 1.
        image = np.asarray(obs["images"][camera.name], np.float64) / 255 * 2 - 1
        if config.vision.kind == "siglip":
            parts.append(siglip(config, p["vision"], image))
        else:
            parts.append(key_points(config, p, p["vision"][camera.name], image, text, obs))
        seen = obs.get("image_mask", {}).get(camera.name, True)
        valid.append(np.full(len(parts[-1]), seen))
    if config.prefix_state:
        parts.append(dense(p["prefix_state_proj"], obs["state"])[None])
        valid.append([True])
    parts.append(text)
    valid.append(obs["token_mask"])
    if config.readout:
        parts.append(p["readout"][None])
        valid.append([True])
    return np.concatenate(parts), np.concatenate(valid).astype(bool)


def suffix_tokens(config, p, found, state, x, t):
    """The state's token and the noisy actions with the time, their blocks, and adaRMS's input."""
    periods = 4e-3 * 1000 ** np.linspace(0, 1, config.expert_width // 2)
    moment = np.concatenate([f(2 * np.pi * t / periods) for f in (np.sin, np.cos)])
    actions, cond = dense(p["action_in_proj"], x), None
    if config.time == "adarms":
        cond = silu(dense(p["time_mlp_out"], silu(dense(p["time_mlp_in"], moment))))
    else:
        both = np.concatenate([actions, np.tile(moment, (len(x), 1))], -1)
        actions = dense(p["time_mlp_out"], silu(dense(p["time_mlp_in"], both)))
    if not config.state_token:
        return actions, np.full(len(x), 2), cond
    token = dense(p["state_proj"], state)
    if config.state_from_prefix:
        read = found[-1]
        if config.ground:
            read = np.concatenate([read, mlp(p["ground"]["layers"], read)])
        token = token + dense(p["prefix_to_state"], read)
    blocks = np.array([1] + [2] * len(x))
    return np.concatenate([token[None], actions]), blocks, cond


def layer_norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def cells(image, side):
    """Square patches, row by row, each flattened by row, column, colour."""
    rows = range(0, len(image), side)
    return np.array([image[i : i + side, j : j + side].ravel() for i in rows for j in rows])


def siglip(config, p, image):
    """ViT blocks with full attention over patches, then the head to the trunk's width."""
    patch, width = config.vision.patch, config.vision.width
    kernel = p["embedding"]["kernel"].reshape(-1, width)
    x = cells(image, patch) @ kernel + p["embedding"]["bias"] + p["pos_embedding"][0]
    for layer in range(config.vision.depth):
        own = at(p["blocks"], layer)
        y = layer_norm(own["norm_0"], x)
        q, k, v = (
            np.einsum("sd,dnh->snh", y, own[name]["kernel"]) + own[name]["bias"]
            for name in ("query", "key", "value")
        )
        mixed = attention(q, k, v, np.ones((len(x), len(x)), bool))
        x = x + np.einsum("snh,nhd->sd", mixed, own["out"]["kernel"]) + own["out"]["bias"]
        y = layer_norm(own["norm_1"], x)
        x = x + dense(own["dense_1"], gelu(dense(own["dense_0"], y)))
    return dense(p["head"], layer_norm(p["norm"], x))


def key_points(config, p, stem, image, text, obs):
    """Where learned queries, and those that the instruction asks for, point in an image."""
    stride = config.vision.stride
    said = gelu(dense(p["summary"], (text * obs["token_mask"][:, None]).ravel()))
    x = gelu(dense(stem["patch"], cells(image, stride)) + stem["place"])
    x = gelu(dense(stem["mix"], x))
    queries = stem["queries"].T
    if "ask" in stem:
        queries = np.concatenate([queries, dense(stem["ask"], said).reshape(-1, x.shape[1])])
    weights = softmax(queries @ x.T + stem["bias"].T)
    side = len(image) // stride
    middle = (np.arange(side) + 0.5) / side * 2 - 1
    places = np.array([(middle[j], middle[i]) for i in range(side) for j in range(side)])
    return dense(stem["out"], np.concatenate([weights @ places, weights @ x], -1)) + stem["names"]
