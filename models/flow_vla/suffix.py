"""The suffix: state and noisy actions through the action expert against a stored prefix.

Time runs from 1 (noise) to 0 (action); the velocity is noise minus action.
Shape letters: B batch, N a multiple of it, H horizon, A action size, W expert width, P state
size, S prefix tokens, Q suffix tokens, T all tokens.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from loomax.memory.schedule.policy import remat_as
from loomax.models.attention import attend
from loomax.models.flow_vla.config import RESIDUALS
from loomax.models.flow_vla.model import FlowVLA
from loomax.models.flow_vla.prefix import Prefix, ground, repeat_prefix
from loomax.models.flow_vla.stack import (
    finish_layer,
    layers_of,
    normalise,
    queries_keys_values,
)
from loomax.models.layers import sine_cosine
from loomax.runtime.mesh import constrain


def embed_suffix(
    model: FlowVLA,
    prefix: Prefix | None,
    state: Float[Array, "B P"] | None,
    x: Float[Array, "B H A"],
    t: Float[Array, " B"],
) -> tuple[Float[Array, "B Q W"], Int[Array, " Q"], Float[Array, "B W"] | None]:
    """Suffix tokens, their block numbers, and the adaRMS condition if the model uses one.

    What leads from numbers to tokens is float32 whatever the dtype of the layers, as in openpi.
    """
    c = model.config
    dtype, horizon = jnp.dtype(c.dtype), x.shape[1]
    moment = sine_cosine(t, c.expert_width)
    actions, cond = model.action_in_proj(x.astype(jnp.float32)), None
    if c.time == "adarms":
        cond = jax.nn.swish(model.time_mlp_out(jax.nn.swish(model.time_mlp_in(moment))))
        cond = cond.astype(dtype)
    else:
        spread = jnp.broadcast_to(moment[:, None], actions.shape)
        both = jnp.concatenate([actions, spread], axis=-1)
        actions = model.time_mlp_out(jax.nn.swish(model.time_mlp_in(both)))
    # The prefix is block 0, the state block 1, the actions block 2.
    if not c.state_token:
        return actions.astype(dtype), jnp.full((horizon,), 2), cond
    token = state_token(model, prefix, state.astype(jnp.float32))
    blocks = jnp.array([1] + [2] * horizon)
    tokens = jnp.concatenate([token[:, None], actions], axis=1)
    return tokens.astype(dtype), blocks, cond


def state_token(model: FlowVLA, prefix: Prefix | None, state: Array) -> Float[Array, "B W"]:
    """The state's token, with what the prefix found if the config says so."""
    token = model.state_proj(state)
    if not model.config.state_from_prefix:
        return token
    found = [prefix.out[:, -1]]
    if model.config.ground:
        found.append(ground(model, prefix))
    return token + model.prefix_to_state(jnp.concatenate(found, axis=-1).astype(token.dtype))


def velocity(
    model: FlowVLA,
    prefix: Prefix,
    state: Float[Array, "B P"] | None,
    x: Float[Array, "N H A"],
    t: Float[Array, " N"],
) -> tuple[Float[Array, "N H A"], Float[Array, "N H W"]]:
    """Velocity at (x, t) in float32 and the expert's hidden states of the action tokens.

    `x` may hold several copies of the batch, copy-major; the prefix is then repeated.

    Raises:
        ValueError: if x's batch is no multiple of the prefix's, or another horizon or width.
    """
    batch, c = prefix.mask.shape[0], model.config
    if x.shape[0] % batch or x.shape[1:] != (c.horizon, c.action_dim):
        raise ValueError(
            f"actions have shape {x.shape}, expected (a multiple of {batch}, {c.horizon}, "
            f"{c.action_dim})"
        )
    times = x.shape[0] // batch
    prefix = repeat_prefix(prefix, times)
    state = None if state is None else jnp.tile(state, (times, 1))
    h, blocks, cond = embed_suffix(model, prefix, state, x, t)
    mask = suffix_mask(prefix.mask, blocks)
    positions = prefix.mask.sum(-1, keepdims=True) + jnp.arange(h.shape[1])[None]

    def layer(h, xs):
        p, keys, values = xs
        h = constrain(h, "batch", "length", None)
        q, k, v, gate = queries_keys_values(p, h, positions, cond, c.norm_epsilon)
        k, v = jnp.concatenate([keys, k], axis=1), jnp.concatenate([values, v], axis=1)
        return finish_layer(p, h, attend(q, k, v, mask), gate, cond, c.norm_epsilon), None

    layers = (layers_of(model.expert), prefix.keys, prefix.values)
    body = remat_as(c.remat, layer, RESIDUALS)
    h, _ = jax.lax.scan(body, h, layers, unroll=c.unroll)
    return read_actions(model, h, cond)


def suffix_mask(valid: Bool[Array, "B S"], blocks: Int[Array, " Q"]) -> Bool[Array, "B Q T"]:
    """Every suffix token sees the valid prefix and the suffix blocks up to its own."""
    batch, prefix = valid.shape
    own = jnp.broadcast_to(blocks[None, :] <= blocks[:, None], (batch, len(blocks), len(blocks)))
    seen = jnp.broadcast_to(valid[:, None], (batch, len(blocks), prefix))
    return jnp.concatenate([seen, own], axis=-1)


def read_actions(model: FlowVLA, h: Array, cond: Array | None) -> tuple[Array, Array]:
    """Velocity and final hidden states of the action tokens."""
    c = model.config
    h, _ = normalise(layers_of(model.expert_norm), h[:, -c.horizon :], cond, c.norm_epsilon)
    return model.action_out_proj(h.astype(jnp.float32)), h
