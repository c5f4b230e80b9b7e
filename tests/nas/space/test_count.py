"""Costs against JAX programs of the same blocks, whose products and arrays are counted."""

import json

import jax
import jax.numpy as jnp
import pytest

from loomax.nas.space.blocks import (
    Classifier,
    Conv,
    MBConv,
    Tokens,
    Transformer,
    arch_blocks,
    block_fields,
    block_from,
)
from loomax.nas.space.count import count, macs, outputs, params, parts, rows
from loomax.nas.space.draw import largest, smallest
from loomax.nas.space.vit import autoformer_space, vit_space
from loomax.runtime.flops import matmul_flops


def conv(x, kernel, stride=1, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def affine(x, pair):
    return x * pair[0] + pair[1]


def mbconv_shapes(b: MBConv) -> dict:
    h = b.hidden
    return {
        "expand": (1, 1, b.width_in, h),
        "expand_norm": (2, h),
        "depthwise": (b.kernel, b.kernel, 1, h),
        "depthwise_norm": (2, h),
        "down": (h, b.squeeze),
        "down_bias": (b.squeeze,),
        "up": (b.squeeze, h),
        "up_bias": (h,),
        "project": (1, 1, h, b.width),
        "project_norm": (2, b.width),
        "shortcut": (1, 1, b.width_in, b.width),
    }


def mbconv(b: MBConv, p: dict, x):
    y = affine(conv(x, p["expand"]), p["expand_norm"])
    y = affine(conv(y, p["depthwise"], b.stride, groups=b.hidden), p["depthwise_norm"])
    excite = y.mean((1, 2)) @ p["down"] + p["down_bias"]
    y = y * jax.nn.hard_sigmoid(excite @ p["up"] + p["up_bias"])[:, None, None, :]
    y = affine(conv(y, p["project"]), p["project_norm"])
    return y + conv(x[:, :: b.stride, :: b.stride], p["shortcut"])


def transformer_shapes(b: Transformer) -> dict:
    d, q = b.width, b.heads * b.head_dim
    v = q * b.v_scale
    return {
        "norms": (2, 2, d),
        "qk": (d, 2 * q),
        "v": (d, v),
        "value_conv": (b.value_kernel, b.value_kernel, 1, v),
        "bias": ((2 * b.side - 1) ** 2, b.heads),
        "output": (v, d),
        "output_bias": (d,),
        "up": (d, b.hidden),
        "up_bias": (b.hidden,),
        "down": (b.hidden, d),
        "down_bias": (d,),
    }


def transformer(b: Transformer, p: dict, x):
    n, side = b.side**2, b.side
    y = affine(x, p["norms"][0])
    q, k = jnp.split(y @ p["qk"], 2, -1)
    v = (y @ p["v"]).reshape(1, side, side, -1)
    v = conv(v, p["value_conv"], groups=v.shape[-1]).reshape(1, n, b.heads, -1)
    q, k = (t.reshape(1, n, b.heads, -1) for t in (q, k))
    row, column = jnp.divmod(jnp.arange(n), side)
    index = (row[:, None] - row + side - 1) * (2 * side - 1) + column[:, None] - column + side - 1
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) + p["bias"][index].transpose(2, 0, 1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v).reshape(1, n, -1)
    x = x + jax.nn.hard_swish(mixed) @ p["output"] + p["output_bias"]
    y = affine(x, p["norms"][1])
    return x + jax.nn.hard_swish(y @ p["up"] + p["up_bias"]) @ p["down"] + p["down_bias"]


def traced_macs(function, block, shapes: dict, shape: tuple) -> float:
    weights = {name: jax.ShapeDtypeStruct(size, jnp.float32) for name, size in shapes.items()}
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    program = jax.make_jaxpr(lambda p, x: function(block, p, x))(weights, x)
    return matmul_flops(program) / 2


def elements(shapes: dict) -> int:
    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes.values()]
    return sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize(("side", "kernel", "stride"), [(8, 3, 1), (8, 5, 2), (11, 3, 2)])
def test_mbconv_counts_what_jax_computes(side, kernel, stride):
    block = MBConv(side, 4, 6, hidden=12, kernel=kernel, stride=stride, squeeze=3)
    shapes = mbconv_shapes(block)
    assert macs(block) == traced_macs(mbconv, block, shapes, (1, side, side, 4))
    assert params(block) == elements(shapes)


@pytest.mark.parametrize(("side", "heads", "v_scale"), [(3, 2, 1), (4, 3, 2)])
def test_transformer_counts_what_jax_computes(side, heads, v_scale):
    block = Transformer(side, 12, 20, heads, 4, v_scale, value_kernel=3, bias_table=True)
    shapes = transformer_shapes(block)
    assert macs(block) == traced_macs(transformer, block, shapes, (1, side**2, 12))
    assert params(block) == elements(shapes)


def test_a_block_without_expansion_or_change_of_width_has_fewer_parts():
    names = [part.name for part in parts(MBConv(8, 4, 4, hidden=4, kernel=3))]
    assert names == ["depthwise", "project"]
    assert params(MBConv(8, 4, 4, hidden=4, kernel=3)) == (9 * 4 + 2 * 4) + (16 + 2 * 4)


def test_blocks_come_back_from_json(space):
    for _, block in arch_blocks(space, largest(space)):
        assert block_from(json.loads(json.dumps(block_fields(block)))) == block
    for wrong in ({}, {"kind": "Pool"}, {"kind": "Conv", "side": 3}):
        with pytest.raises(ValueError, match="not a block: .*give what block_fields wrote"):
            block_from(wrong)


def test_small_blocks_by_hand():
    assert parts(Conv(9, 3, 4, 3, 2))[0].macs == 5 * 5 * 9 * 3 * 4
    assert params(Conv(8, 3, 4, 4, 4, norm=False)) == 4 * 4 * 3 * 4 + 4
    assert params(Tokens(2, 8, absolute=True, class_token=True)) == 8 + 5 * 8
    head = Classifier(2, 4, hidden=12, features=7, classes=5)
    assert macs(head) == 4 * 4 * 12 + 12 * 7 + 7 * 5
    assert params(head) == (4 * 12 + 12 + 24) + (12 * 7 + 7) + (7 * 5 + 5)
    assert outputs(head) == 4 * 12 + 7 + 5


@pytest.mark.parametrize(
    ("width", "expected", "gmacs"), [(192, 5_717_416, 1.25), (768, 86_567_656, 17.56)]
)
def test_vit_has_the_published_parameters_and_macs(width, expected, gmacs):
    """ViT-B/16: 86,567,656 and 17.56 G (torchvision's model page); DeiT-Ti: 5.7 M and 1.3 G
    (arXiv 2012.12877), here in full."""
    space = vit_space((width,), (12,))
    cost = count(space, largest(space))
    assert cost.params == expected
    assert round(cost.macs / 1e9, 2) == gmacs


@pytest.mark.parametrize(("size", "millions"), [("tiny", 5.8), ("small", 22.9), ("base", 53.7)])
def test_autoformer_spaces_hold_networks_of_the_published_sizes(size, millions):
    """The parameters that AutoFormer reports (arXiv 2107.00651)."""
    space = autoformer_space(size)
    ends = [count(space, arch).params / 1e6 for arch in (smallest(space), largest(space))]
    assert 0.5 * millions < ends[0] < millions < ends[1] < 2 * millions


def test_another_autoformer_size_is_refused():
    with pytest.raises(ValueError, match="size is 'huge'; allowed: tiny, small, base"):
        autoformer_space("huge")


def test_totals_are_sums_of_rows(space):
    arch = largest(space)
    table = rows(space, arch)
    cost = count(space, arch)
    assert cost.macs == sum(row.part.macs for row in table)
    assert cost.weight_bytes(4) == 4 * sum(row.part.params for row in table)
    assert cost.activation_bytes(2) == 2 * sum(row.part.outputs for row in table)
    assert {row.stage for row in table} == {stage.name for stage in space.stages} | {"head"}
    assert len({(row.stage, row.block, row.part.name) for row in table}) == len(table)
