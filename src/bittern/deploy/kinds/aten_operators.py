# SPDX-License-Identifier: Apache-2.0
"""The ATen operators that a program may hold: pure and deterministic, on tensors alone.

None reads a file, runs code, draws random numbers, writes into its inputs, or reaches memory by strides that a caller
gives. Names are those of torch, "name.overload".
"""

from __future__ import annotations

from collections.abc import Iterable


def _each(overload: str, names: str) -> Iterable[str]:
    return (f"{name}.{overload}" for name in names.split())


ALLOWED = frozenset(
    (
        *_each("default", "conv1d conv2d conv3d convolution linear matmul mm bmm addmm baddbmm einsum dot mv outer"),
        *_each("padding", "conv1d conv2d conv3d"),
        *_each("input", "conv_transpose2d conv_transpose3d lstm gru rnn_tanh rnn_relu"),
        *_each("default", "lstm_cell gru_cell"),
        *_each("default", "conv_transpose1d bilinear embedding one_hot scaled_dot_product_attention"),
        *_each("default", "batch_norm _native_batch_norm_legit_no_training layer_norm native_layer_norm group_norm"),
        *_each("default", "native_group_norm instance_norm rms_norm _weight_norm cosine_similarity pairwise_distance"),
        *_each("no_stats", "_native_batch_norm_legit"),
        *_each(
            "default", "relu relu6 gelu silu sigmoid tanh hardsigmoid hardswish hardtanh leaky_relu elu selu celu mish"
        ),
        *_each("default", "softplus log_sigmoid hardshrink softshrink prelu glu erf erfc"),
        *_each(
            "default", "exp exp2 expm1 log log1p log2 log10 sqrt rsqrt reciprocal abs neg sin cos tan asin acos atan"
        ),
        *_each("default", "sinh cosh floor ceil round trunc frac square sign sgn isfinite isnan isinf logical_not"),
        *_each("default", "bitwise_not threshold atan2 hypot logaddexp addcmul addcdiv maximum minimum logical_and"),
        *_each("default", "logical_or logical_xor"),
        *_each("Tensor", "add sub mul div rsub fmod remainder bitwise_and bitwise_or bitwise_xor lerp"),
        *_each("Scalar", "add sub mul div rsub fmod remainder floor_divide lerp bitwise_and bitwise_or"),
        *_each("Tensor", "__and__ __or__"),
        *("div.Tensor_mode", "div.Scalar_mode", "true_divide.Tensor", "true_divide.Scalar"),
        *("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar"),
        *_each("Tensor", "eq ne lt le gt ge"),
        *_each("Scalar", "eq ne lt le gt ge"),
        *("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar"),
        *_each("Scalar", "masked_fill fill"),
        *_each("Tensor", "masked_fill fill clamp clamp_min clamp_max"),
        *_each("default", "clamp clamp_min clamp_max full_like zeros_like ones_like zeros ones full arange new_zeros"),
        *_each("default", "new_ones new_full scalar_tensor eye linspace tril triu"),
        *("arange.start", "arange.start_step"),
        *("softmax.int", "log_softmax.int", "_softmax.default", "_log_softmax.default", "logsumexp.default"),
        *("sum.default", "sum.dim_IntList", "mean.default", "mean.dim", "prod.default", "prod.dim_int"),
        *(
            "var.correction",
            "var.dim",
            "std.correction",
            "std.dim",
            "var_mean.correction",
            "linalg_vector_norm.default",
        ),
        *("norm.ScalarOpt_dim", "norm.Scalar", "amax.default", "amin.default", "max.default", "min.default"),
        *("max.dim", "min.dim", "max.other", "min.other", "argmax.default", "argmin.default", "any.default", "any.dim"),
        *(
            "all.default",
            "all.dim",
            "cumsum.default",
            "diff.default",
            "cumprod.default",
            "topk.default",
            "sort.default",
            "argsort.default",
        ),
        *_each(
            "default", "view reshape _unsafe_view view_as reshape_as expand expand_as permute flip roll repeat tile"
        ),
        *_each(
            "default", "t squeeze unsqueeze narrow floor_divide contiguous clone detach alias lift_fresh_copy stack cat"
        ),
        *("flatten.using_ints", "unflatten.int", "transpose.int", "squeeze.dim", "squeeze.dims", "movedim.int"),
        *("movedim.intlist", "select.int", "slice.Tensor", "repeat_interleave.self_int", "swapaxes.default"),
        *("split.Tensor", "split.sizes", "split_with_sizes.default", "chunk.default", "unbind.int", "unfold.default"),
        *("select_scatter.default", "slice_scatter.default", "index_select.default", "index.Tensor", "gather.default"),
        *("take_along_dim.default", "pad.default", "constant_pad_nd.default", "im2col.default", "col2im.default"),
        *_each("default", "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"),
        *_each("default", "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d"),
        *_each("default", "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d"),
        *_each("default", "max_pool2d_with_indices _adaptive_avg_pool2d pixel_shuffle pixel_unshuffle"),
        *_each("default", "channel_shuffle native_channel_shuffle grid_sampler affine_grid_generator"),
        *_each("vec", "upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d upsample_linear1d"),
        *_each(
            "default", "upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d upsample_linear1d"
        ),
        *_each("vec", "_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact2d upsample_trilinear3d"),
        *("to.dtype", "to.device", "to.dtype_layout", "_to_copy.default", "type_as.default", "bittern::sign.default"),
        *("bittern::sign_products.default",),
        *("bittern::linear_4bit.default", "bittern::linear_8bit.default", "bittern::linear_groups.default"),
    )
)
"""Operators by name and overload."""
