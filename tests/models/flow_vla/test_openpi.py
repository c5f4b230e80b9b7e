"""openpi's names and shapes, written down from its published checkpoints."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loomax.models.flow_vla.config import CameraConfig, VisionConfig, debug, pi0, presets
from loomax.models.flow_vla.model import FlowVLA, create
from loomax.models.flow_vla.openpi import from_openpi, openpi_path_map, to_openpi

LLM, IMG = "PaliGemma/llm", "PaliGemma/img"
BLOCK = f"{IMG}/Transformer/encoderblock"
SHAPES = {
    f"{LLM}/embedder/input_embedding": (257_152, 2048),
    f"{LLM}/layers/attn/q_einsum/w": (18, 8, 2048, 256),
    f"{LLM}/layers/attn/kv_einsum/w": (18, 2, 1, 2048, 256),
    f"{LLM}/layers/attn/attn_vec_einsum/w": (18, 8, 256, 2048),
    f"{LLM}/layers/mlp/gating_einsum": (18, 2, 2048, 16_384),
    f"{LLM}/layers/mlp/linear": (18, 16_384, 2048),
    f"{LLM}/layers/pre_attention_norm/scale": (18, 2048),
    f"{LLM}/final_norm/scale": (2048,),
    f"{LLM}/layers/attn/q_einsum_1/w": (18, 8, 1024, 256),
    f"{LLM}/layers/attn/kv_einsum_1/w": (18, 2, 1, 1024, 256),
    f"{LLM}/layers/mlp_1/gating_einsum": (18, 2, 1024, 4096),
    f"{IMG}/embedding/kernel": (14, 14, 3, 1152),
    f"{IMG}/pos_embedding": (1, 256, 1152),
    f"{BLOCK}/LayerNorm_0/scale": (27, 1152),
    f"{BLOCK}/MlpBlock_0/Dense_0/kernel": (27, 1152, 4304),
    f"{BLOCK}/MlpBlock_0/Dense_1/bias": (27, 1152),
    f"{BLOCK}/MultiHeadDotProductAttention_0/query/kernel": (27, 1152, 16, 72),
    f"{BLOCK}/MultiHeadDotProductAttention_0/key/bias": (27, 16, 72),
    f"{BLOCK}/MultiHeadDotProductAttention_0/out/kernel": (27, 16, 72, 1152),
    f"{IMG}/Transformer/encoder_norm/bias": (1152,),
    f"{IMG}/head/kernel": (1152, 2048),
    "action_in_proj/kernel": (32, 1024),
    "action_out_proj/bias": (32,),
}
ONLY = {
    "pi0": {
        "state_proj/kernel": (32, 1024),
        "action_time_mlp_in/kernel": (2048, 1024),
        f"{LLM}/layers/pre_ffw_norm_1/scale": (18, 1024),
        f"{LLM}/final_norm_1/scale": (1024,),
    },
    "pi05": {
        "time_mlp_in/kernel": (1024, 1024),
        f"{LLM}/layers/pre_ffw_norm_1/Dense_0/kernel": (18, 1024, 3072),
        f"{LLM}/final_norm_1/Dense_0/bias": (3072,),
    },
}


def small_pi():
    plain = dataclasses.replace(
        debug(), prefix_state=False, readout=False, ground=0, state_from_prefix=False
    )
    vision = VisionConfig(kind="siglip", patch=4, width=12, depth=2, mlp=16, heads=2)
    return dataclasses.replace(plain, vision=vision, cameras=(CameraConfig("scene", 8),))


@pytest.mark.parametrize("name", ["pi0", "pi05"])
def test_every_parameter_has_an_openpi_name_and_shape(name):
    config = presets[name]()
    shapes = nnx.eval_shape(lambda: FlowVLA(config, nnx.Rngs(0)))
    ours = {path: leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(shapes, nnx.Param))}
    names = openpi_path_map(config)
    assert sorted(names.values()) == sorted(ours)
    for theirs, shape in (SHAPES | ONLY[name]).items():
        assert ours[names[theirs]] == shape, theirs
    other = ONLY["pi05" if name == "pi0" else "pi0"]
    assert not set(other) & set(names)


def test_load_is_the_inverse_of_export():
    config = small_pi()
    _, params = create(config, key=jax.random.key(2))
    flat = to_openpi(config, params)
    saved = {f"params/{name}/value": array for name, array in flat.items()}
    # PaliGemma's npz files: "params/llm/..." and "params/img/...".
    plain = {name.replace("PaliGemma/", "params/"): array for name, array in flat.items()}
    assert "params/llm/layers/attn/q_einsum/w" in plain
    for given in (saved, plain):
        back = from_openpi(config, given)
        assert jax.tree.structure(back) == jax.tree.structure(params)
        for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_other_checkpoints_are_refused():
    config = small_pi()
    flat = to_openpi(config, create(config, key=jax.random.key(2))[1])
    broken = dict(flat)
    del broken["state_proj/bias"]
    with pytest.raises(ValueError, match=r"missing \['state_proj/bias'\]"):
        from_openpi(config, broken)
    with pytest.raises(ValueError, match=r"unknown \['lora/w'\]"):
        from_openpi(config, flat | {"lora/w": jnp.zeros(())})
    with pytest.raises(ValueError, match=r"action_in_proj/kernel has shape \(3, 16\), expected"):
        from_openpi(config, flat | {"action_in_proj/kernel": jnp.zeros((3, 16))})
    with pytest.raises(ValueError, match="SigLIP"):
        openpi_path_map(debug())
    assert openpi_path_map(pi0())
