# SPDX-License-Identifier: Apache-2.0
"""C functions of low-bit layers: gather, count, and go on to a real number or a bit.

What one output position sees of one group is gathered once as a row of bits without gaps, [tap][channel of the group],
the order of a weight's bits. So stride, dilation, groups, channels that fill no word, one dimension and none are one
case, the weights take no more memory than their bits, and the inner loop is exclusive or and popcount over words.
Padding of value 0, which has no bit, is left out by a mask: acc = seen - 2 * (bits that differ among those seen).
"""

from __future__ import annotations

from bittern.deploy.c_export.arithmetic import FMA, POPCOUNT, PRODUCT
from bittern.deploy.c_export.source import CFunction
from bittern.deploy.c_export.window import SEEN, WINDOW

LAYER = CFunction(
    "bt_layer",
    """\
typedef struct {
    bt_window window;
    int32_t channels, out_channels, groups;
    int32_t input_planes, weight_planes;
    int32_t last_factor;                        /* of the last weight plane; before it they are 1, 2, 4, ... */
    int32_t pad_value;                          /* of padding: -1, 0, +1 */
    int32_t raised;                             /* bit of a plane: its padding is +1 */
    int32_t channel_step, position_step;        /* of the real result */
    const uint32_t *weight;                     /* [weight_planes][out_channels][words of a row] */
    const float *offset, *scale, *alpha, *beta; /* [out_channels]; NULL: 0, 1, 1, 0 */
} bt_layer;
""",
    (WINDOW,),
)

GATHER = CFunction(
    "bt_gather",
    """\
/* Sets `count` bits of `row` from bit `at` on to those of `bits` from bit `from` on (NULL: ones); they were 0. */
static void bt_put(uint32_t *row, int32_t at, const uint32_t *bits, int32_t from, int32_t count)
{
    while (count > 0) {
        const int32_t room = 32 - at % 32, rest = 32 - from % 32;
        int32_t take = count < room ? count : room;
        uint32_t chunk;
        take = take < rest ? take : rest;
        chunk = bits != NULL ? bits[from / 32] >> (from % 32) : 0xffffffffu;
        chunk &= 0xffffffffu >> (32 - take);
        row[at / 32] |= chunk << (at % 32);
        at += take;
        from += take;
        count -= take;
    }
}

static int32_t bt_fan_in(const bt_layer *layer)
{
    return layer->window.kernel[0] * layer->window.kernel[1] * (layer->channels / layer->groups);
}

/* What (row, column) sees of one group: rows[input_planes], then the mask of what is seen. Returns how many bits. */
static int32_t bt_gather(const bt_layer *layer, const uint32_t *bits, int32_t row, int32_t column, int32_t group,
                         uint32_t *rows)
{
    const bt_window *w = &layer->window;
    const int32_t per_group = layer->channels / layer->groups;
    const int32_t words = (bt_fan_in(layer) + 31) / 32, pixel = (layer->channels + 31) / 32;
    int32_t i, j, plane, at = 0, seen = 0;
    memset(rows, 0, (size_t)((layer->input_planes + 1) * words) * sizeof *rows);
    for (i = 0; i < w->kernel[0]; ++i) {
        for (j = 0; j < w->kernel[1]; ++j, at += per_group) {
            const int32_t position = bt_seen(w, row, column, i, j);
            for (plane = 0; plane < layer->input_planes && position >= 0; ++plane) {
                const uint32_t *from = bits + (plane * w->height * w->width + position) * pixel;
                bt_put(rows + plane * words, at, from, group * per_group, per_group);
            }
            for (plane = 0; plane < layer->input_planes && position < 0; ++plane) {
                if ((layer->raised >> plane & 1) != 0) {
                    bt_put(rows + plane * words, at, NULL, 0, per_group);
                }
            }
            if (position >= 0 || layer->pad_value != 0) {
                bt_put(rows + layer->input_planes * words, at, NULL, 0, per_group);
                seen += per_group;
            }
        }
    }
    return seen;
}
""",
    (LAYER, SEEN),
    ("string.h",),
)

ACCUMULATE = CFunction(
    "bt_accumulate",
    """\
/* The accumulator of one output channel: products of all planes, each with the factors of its two planes. */
static int32_t bt_accumulate(const bt_layer *layer, const uint32_t *rows, int32_t seen, int32_t channel)
{
    const int32_t fan_in = bt_fan_in(layer), words = (fan_in + 31) / 32;
    const uint32_t *mask = rows + layer->input_planes * words;
    int32_t i, j, k, total = 0;
    for (i = 0; i < layer->weight_planes; ++i) {
        const uint32_t *weight = layer->weight + (i * layer->out_channels + channel) * words;
        const int32_t factor = i + 1 < layer->weight_planes ? (int32_t)1 << i : layer->last_factor;
        for (j = 0; j < layer->input_planes; ++j) {
            const uint32_t *row = rows + j * words;
            int32_t differ = 0;
            if (seen == fan_in) {
                for (k = 0; k < words; ++k) {
                    differ += (int32_t)BITTERN_POPCOUNT32(row[k] ^ weight[k]);
                }
            } else {
                for (k = 0; k < words; ++k) {
                    differ += (int32_t)BITTERN_POPCOUNT32((row[k] ^ weight[k]) & mask[k]);
                }
            }
            total += (seen - 2 * differ) * factor * ((int32_t)1 << j);
        }
    }
    return total;
}
""",
    (LAYER, GATHER, POPCOUNT),
)

BINARY = CFunction(
    "bt_binary",
    """\
/* Bits to real values: fma(fl(fl(acc + offset) * scale), alpha, beta), times spread[position * spread_step] if any. */
static void bt_binary(const bt_layer *layer, const uint32_t *bits, const float *spread, int32_t spread_step,
                      uint32_t *rows, float *y)
{
    const bt_window *w = &layer->window;
    const int32_t per_group = layer->out_channels / layer->groups, positions = w->out_height * w->out_width;
    int32_t position, group, index;
    for (position = 0; position < positions; ++position) {
        for (group = 0; group < layer->groups; ++group) {
            const int32_t seen = bt_gather(layer, bits, position / w->out_width, position % w->out_width, group, rows);
            for (index = 0; index < per_group; ++index) {
                const int32_t channel = group * per_group + index;
                const int32_t acc = bt_accumulate(layer, rows, seen, channel);
                const float integer = (float)acc + (layer->offset != NULL ? layer->offset[channel] : 0.0f);
                const float scaled = layer->scale != NULL ? bt_product(integer, layer->scale[channel]) : integer;
                const float shift = layer->beta != NULL ? layer->beta[channel] : 0.0f;
                float real = scaled + shift;
                if (layer->alpha != NULL) {
                    real = bt_fma(scaled, layer->alpha[channel], shift);
                }
                if (spread != NULL) {
                    real = bt_product(real, spread[position * spread_step]);
                }
                BITTERN_TRACE_ACCUMULATOR(channel * positions + position, acc);
                y[channel * layer->channel_step + position * layer->position_step] = real;
            }
        }
    }
}
""",
    (ACCUMULATE, FMA, PRODUCT),
)

BINARY_BITS = CFunction(
    "bt_binary_bits",
    """\
/* Bits to bits: 1 where acc >= threshold, the complement in the channels of `flip` (NULL: none). */
static void bt_binary_bits(const bt_layer *layer, const uint32_t *bits, const int32_t *threshold, const uint32_t *flip,
                           uint32_t *rows, uint32_t *y)
{
    const bt_window *w = &layer->window;
    const int32_t per_group = layer->out_channels / layer->groups, positions = w->out_height * w->out_width;
    const int32_t words = (layer->out_channels + 31) / 32;
    int32_t position, group, index;
    for (position = 0; position < positions; ++position, y += words) {
        memset(y, 0, (size_t)words * sizeof *y);
        for (group = 0; group < layer->groups; ++group) {
            const int32_t seen = bt_gather(layer, bits, position / w->out_width, position % w->out_width, group, rows);
            for (index = 0; index < per_group; ++index) {
                const int32_t channel = group * per_group + index;
                const int32_t acc = bt_accumulate(layer, rows, seen, channel);
                BITTERN_TRACE_ACCUMULATOR(channel * positions + position, acc);
                if (acc >= threshold[channel]) {
                    y[channel / 32] |= (uint32_t)1 << (channel % 32);
                }
            }
        }
        for (index = 0; index < words && flip != NULL; ++index) {
            y[index] ^= flip[index];
        }
    }
}
""",
    (ACCUMULATE,),
    ("string.h",),
)

MAGNITUDE = CFunction(
    "bt_magnitude",
    """\
/* Mean |x[i * step]|: 16 sums, which are then added by halves. */
static float bt_magnitude(const float *x, int32_t count, int32_t step)
{
    float sums[16] = {0.0f};
    int32_t i, half;
    for (i = 0; i < count; ++i) {
        const float real = x[i * step];
        sums[i % 16] += real < 0.0f ? -real : real;
    }
    for (half = 8; half > 0; half /= 2) {
        for (i = 0; i < half; ++i) {
            sums[i] += sums[i + half];
        }
    }
    return sums[0] / (float)count;
}
""",
)

SPREAD = CFunction(
    "bt_spread",
    """\
/* XNOR-Net's K: the mean |x| over the channels of every input position, then over every receptive field (padding is 0).
   x[channel * channel_step + position * position_step] -> spread[output position]; `means` holds the first step. */
static void bt_spread(const bt_window *w, const float *x, int32_t channels, int32_t channel_step, int32_t position_step,
                      float *means, float *spread)
{
    int32_t position, i, j;
    for (position = 0; position < w->height * w->width; ++position) {
        means[position] = bt_magnitude(x + position * position_step, channels, channel_step);
    }
    for (position = 0; position < w->out_height * w->out_width; ++position) {
        float sum = 0.0f;
        for (i = 0; i < w->kernel[0]; ++i) {
            for (j = 0; j < w->kernel[1]; ++j) {
                const int32_t at = bt_seen(w, position / w->out_width, position % w->out_width, i, j);
                sum += at < 0 ? 0.0f : means[at];
            }
        }
        spread[position] = sum / (float)(w->kernel[0] * w->kernel[1]);
    }
}
""",
    (SEEN, MAGNITUDE),
)

MEAN_SIZE = CFunction(
    "bt_mean_size",
    """\
/* Mean |x| over the whole sample: over its positions that over the channels, which `means` holds. */
static void bt_mean_size(const float *x, int32_t positions, int32_t channels, float *means, float *mean)
{
    int32_t position;
    for (position = 0; position < positions; ++position) {
        means[position] = bt_magnitude(x + position, channels, positions);
    }
    *mean = bt_magnitude(means, positions, 1);
}
""",
    (MAGNITUDE,),
)
