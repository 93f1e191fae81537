# SPDX-License-Identifier: Apache-2.0
"""C functions of the real layers, whose sums run in the order of the loops."""

from __future__ import annotations

from bittern.deploy.c_export.arithmetic import FMA
from bittern.deploy.c_export.source import CFunction
from bittern.deploy.c_export.window import SEEN

CONVOLUTION = CFunction(
    "bt_convolution",
    """\
typedef struct {
    bt_window window;
    int32_t channels, out_channels, groups;
    const float *weight; /* [out_channels][kernel][channels of a group] */
    const float *bias;   /* [out_channels] or NULL */
} bt_convolution;

/* One result of a convolution. */
static float bt_conv_at(const bt_convolution *layer, const float *x, int32_t out, int32_t position)
{
    const bt_window *w = &layer->window;
    const int32_t per_group = layer->channels / layer->groups, pixels = w->height * w->width;
    const float *group = x + out / (layer->out_channels / layer->groups) * per_group * pixels;
    const float *weight = layer->weight + out * w->kernel[0] * w->kernel[1] * per_group;
    float sum = 0.0f;
    int32_t i, j, c;
    for (i = 0; i < w->kernel[0]; ++i) {
        for (j = 0; j < w->kernel[1]; ++j, weight += per_group) {
            const int32_t at = bt_seen(w, position / w->out_width, position % w->out_width, i, j);
            for (c = 0; c < per_group && at >= 0; ++c) {
                sum += group[c * pixels + at] * weight[c];
            }
        }
    }
    return layer->bias != NULL ? sum + layer->bias[out] : sum;
}
""",
    (SEEN,),
)

CONV = CFunction(
    "bt_conv",
    """\
static void bt_conv(const bt_convolution *layer, const float *x, float *y)
{
    const int32_t positions = layer->window.out_height * layer->window.out_width;
    int32_t out, position;
    for (out = 0; out < layer->out_channels; ++out) {
        for (position = 0; position < positions; ++position) {
            *y++ = bt_conv_at(layer, x, out, position);
        }
    }
}
""",
    (CONVOLUTION,),
)

CONV_BITS = CFunction(
    "bt_conv_bits",
    """\
/* A convolution, fma(y, alpha, beta) unless NULL, clamp, y >= threshold (where NULL, limit) -> bits[position][word]. */
static void bt_conv_bits(const bt_convolution *layer, const float *alpha, const float *beta, float least, float most,
                         const float *threshold, float limit, const float *x, uint32_t *bits)
{
    const int32_t positions = layer->window.out_height * layer->window.out_width;
    int32_t out, position;
    for (position = 0; position < positions; ++position) {
        uint32_t word = 0u;
        for (out = 0; out < layer->out_channels; ++out) {
            float y = bt_conv_at(layer, x, out, position);
            if (alpha != NULL) {
                y = bt_fma(y, alpha[out], beta[out]);
            }
            y = y < least ? least : (y > most ? most : y);
            if (y >= (threshold != NULL ? threshold[out] : limit)) {
                word |= (uint32_t)1 << (out % 32);
            }
            if (out % 32 == 31 || out == layer->out_channels - 1) {
                *bits++ = word;
                word = 0u;
            }
        }
    }
}
""",
    (CONVOLUTION, FMA),
)

LINEAR = CFunction(
    "bt_linear",
    """\
/* x[rows][features], weight[outputs][features], bias NULL or [outputs] -> y[rows][outputs]. */
static void bt_linear(const float *x, int32_t rows, int32_t features, int32_t outputs, const float *weight,
                      const float *bias, float *y)
{
    int32_t row, out, i;
    for (row = 0; row < rows; ++row, x += features) {
        for (out = 0; out < outputs; ++out) {
            float sum = 0.0f;
            for (i = 0; i < features; ++i) {
                sum += x[i] * weight[out * features + i];
            }
            *y++ = bias != NULL ? sum + bias[out] : sum;
        }
    }
}
""",
)

LAYER_NORM = CFunction(
    "bt_layer_norm",
    """\
/* Each of `rows` rows: (x - mean) / sqrt(variance + eps) * weight + bias; weight and bias may be NULL. */
static void bt_layer_norm(const float *x, int32_t rows, int32_t features, float eps, const float *weight,
                          const float *bias, float *y)
{
    int32_t row, i;
    for (row = 0; row < rows; ++row, x += features, y += features) {
        float mean = 0.0f, variance = 0.0f, factor;
        for (i = 0; i < features; ++i) {
            mean += x[i];
        }
        mean = mean / (float)features;
        for (i = 0; i < features; ++i) {
            variance += (x[i] - mean) * (x[i] - mean);
        }
        factor = 1.0f / sqrtf(variance / (float)features + eps);
        for (i = 0; i < features; ++i) {
            const float normal = (x[i] - mean) * factor;
            y[i] = (weight != NULL ? normal * weight[i] : normal) + (bias != NULL ? bias[i] : 0.0f);
        }
    }
}
""",
    headers=("math.h",),
)

SOFTMAX = CFunction(
    "bt_softmax",
    """\
/* Over the middle dimension of x[outer][count][inner]; `take_log`: its logarithm. */
static void bt_softmax(const float *x, int32_t outer, int32_t count, int32_t inner, int32_t take_log, float *y)
{
    int32_t i, k, c;
    for (i = 0; i < outer * inner; ++i) {
        const int32_t start = i / inner * count * inner + i % inner;
        float most = x[start], sum = 0.0f;
        for (c = 1; c < count; ++c) {
            k = start + c * inner;
            most = x[k] > most ? x[k] : most;
        }
        for (c = 0; c < count; ++c) {
            sum += expf(x[start + c * inner] - most);
        }
        for (c = 0; c < count; ++c) {
            k = start + c * inner;
            y[k] = take_log ? x[k] - most - logf(sum) : expf(x[k] - most) / sum;
        }
    }
}
""",
    headers=("math.h",),
)
