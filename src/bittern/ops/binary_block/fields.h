// SPDX-License-Identifier: Apache-2.0

// The fields of a `ProgramStep` by name, for Python, which fills it.
#pragma once

#include "program.h"
#include "record.h"

namespace bittern {

constexpr std::array kConv2dFields = {
    BITTERN_FIELD(Conv2d, batch),        BITTERN_FIELD(Conv2d, height),
    BITTERN_FIELD(Conv2d, width),        BITTERN_FIELD(Conv2d, channels),
    BITTERN_FIELD(Conv2d, out_channels), BITTERN_FIELD(Conv2d, kernel_h),
    BITTERN_FIELD(Conv2d, kernel_w),     BITTERN_FIELD(Conv2d, stride_h),
    BITTERN_FIELD(Conv2d, stride_w),     BITTERN_FIELD(Conv2d, pad_h),
    BITTERN_FIELD(Conv2d, pad_w),        BITTERN_FIELD(Conv2d, dilation_h),
    BITTERN_FIELD(Conv2d, dilation_w),   BITTERN_FIELD(Conv2d, groups),
    BITTERN_FIELD(Conv2d, pad_value),    BITTERN_FIELD(Conv2d, input),
    BITTERN_FIELD(Conv2d, weights),      BITTERN_FIELD(Conv2d, epilogue),
    BITTERN_FIELD(Conv2d, output),       BITTERN_FIELD(Conv2d, input_row),
    BITTERN_FIELD(Conv2d, input_image),  BITTERN_FIELD(Conv2d, input_border),
    BITTERN_FIELD(Conv2d, tail)};
static_assert(is_whole(kConv2dFields, sizeof(Conv2d)));

constexpr std::array kTailFields = {BITTERN_FIELD(Tail, activation),
                                    BITTERN_FIELD(Tail, residual_last),
                                    BITTERN_FIELD(Tail, rows),
                                    BITTERN_FIELD(Tail, pitch),
                                    BITTERN_FIELD(Tail, residual),
                                    BITTERN_FIELD(Tail, residual_height),
                                    BITTERN_FIELD(Tail, residual_width),
                                    BITTERN_FIELD(Tail, residual_channels),
                                    BITTERN_FIELD(Tail, residual_pool),
                                    BITTERN_FIELD(Tail, residual_shift),
                                    BITTERN_FIELD(Tail, residual_repeats),
                                    BITTERN_FIELD(Tail, residual_affine),
                                    BITTERN_FIELD(Tail, input_scale),
                                    BITTERN_FIELD(Tail, factor),
                                    BITTERN_FIELD(Tail, factor_row),
                                    BITTERN_FIELD(Tail, factor_pitch),
                                    BITTERN_FIELD(Tail, real),
                                    BITTERN_FIELD(Tail, bits),
                                    BITTERN_FIELD(Tail, bits_row),
                                    BITTERN_FIELD(Tail, bits_image)};
static_assert(is_whole(kTailFields, sizeof(Tail)));

constexpr std::array kPlanesFields = {BITTERN_FIELD(Planes, input),       BITTERN_FIELD(Planes, weight),
                                      BITTERN_FIELD(Planes, input_words), BITTERN_FIELD(Planes, weight_bytes),
                                      BITTERN_FIELD(Planes, last_factor), BITTERN_FIELD(Planes, raised)};
static_assert(is_whole(kPlanesFields, sizeof(Planes)));

constexpr std::array kEncodeImageFields = {
    BITTERN_FIELD(EncodeImage, batch),       BITTERN_FIELD(EncodeImage, height),
    BITTERN_FIELD(EncodeImage, width),       BITTERN_FIELD(EncodeImage, channels),
    BITTERN_FIELD(EncodeImage, planes),      BITTERN_FIELD(EncodeImage, plane_words),
    BITTERN_FIELD(EncodeImage, x),           BITTERN_FIELD(EncodeImage, x_image),
    BITTERN_FIELD(EncodeImage, x_row),       BITTERN_FIELD(EncodeImage, x_pixel),
    BITTERN_FIELD(EncodeImage, x_channel),   BITTERN_FIELD(EncodeImage, threshold),
    BITTERN_FIELD(EncodeImage, affine),      BITTERN_FIELD(EncodeImage, bits),
    BITTERN_FIELD(EncodeImage, bits_row),    BITTERN_FIELD(EncodeImage, bits_image),
    BITTERN_FIELD(EncodeImage, pixel_words), BITTERN_FIELD(EncodeImage, first_bit)};
static_assert(is_whole(kEncodeImageFields, sizeof(EncodeImage)));

constexpr std::array kPoolImagesFields = {
    BITTERN_FIELD(PoolImages, batch),      BITTERN_FIELD(PoolImages, height),
    BITTERN_FIELD(PoolImages, width),      BITTERN_FIELD(PoolImages, channels),
    BITTERN_FIELD(PoolImages, out_height), BITTERN_FIELD(PoolImages, out_width),
    BITTERN_FIELD(PoolImages, kernel_h),   BITTERN_FIELD(PoolImages, kernel_w),
    BITTERN_FIELD(PoolImages, stride_h),   BITTERN_FIELD(PoolImages, stride_w),
    BITTERN_FIELD(PoolImages, pad_h),      BITTERN_FIELD(PoolImages, pad_w),
    BITTERN_FIELD(PoolImages, average),    BITTERN_FIELD(PoolImages, count_padding),
    BITTERN_FIELD(PoolImages, lanes),      BITTERN_FIELD(PoolImages, x),
    BITTERN_FIELD(PoolImages, affine),     BITTERN_FIELD(PoolImages, out)};
static_assert(is_whole(kPoolImagesFields, sizeof(PoolImages)));

constexpr std::array kRealConvFields = {
    BITTERN_FIELD(RealConv, batch),          BITTERN_FIELD(RealConv, height),
    BITTERN_FIELD(RealConv, width),          BITTERN_FIELD(RealConv, channels),
    BITTERN_FIELD(RealConv, out_height),     BITTERN_FIELD(RealConv, out_width),
    BITTERN_FIELD(RealConv, out_channels),   BITTERN_FIELD(RealConv, kernel_h),
    BITTERN_FIELD(RealConv, kernel_w),       BITTERN_FIELD(RealConv, stride_h),
    BITTERN_FIELD(RealConv, stride_w),       BITTERN_FIELD(RealConv, pad_h),
    BITTERN_FIELD(RealConv, pad_w),          BITTERN_FIELD(RealConv, dilation_h),
    BITTERN_FIELD(RealConv, dilation_w),     BITTERN_FIELD(RealConv, groups),
    BITTERN_FIELD(RealConv, channels_first), BITTERN_FIELD(RealConv, chain),
    BITTERN_FIELD(RealConv, in_turn),        BITTERN_FIELD(RealConv, x),
    BITTERN_FIELD(RealConv, x_image),        BITTERN_FIELD(RealConv, x_row),
    BITTERN_FIELD(RealConv, x_pixel),        BITTERN_FIELD(RealConv, x_channel),
    BITTERN_FIELD(RealConv, weights),        BITTERN_FIELD(RealConv, out),
    BITTERN_FIELD(RealConv, affine),         BITTERN_FIELD(RealConv, limits)};
static_assert(is_whole(kRealConvFields, sizeof(RealConv)));

constexpr std::array kInputScaleFields = {
    BITTERN_FIELD(InputScale, batch),      BITTERN_FIELD(InputScale, height),
    BITTERN_FIELD(InputScale, width),      BITTERN_FIELD(InputScale, channels),
    BITTERN_FIELD(InputScale, out_height), BITTERN_FIELD(InputScale, out_width),
    BITTERN_FIELD(InputScale, kernel_h),   BITTERN_FIELD(InputScale, kernel_w),
    BITTERN_FIELD(InputScale, stride_h),   BITTERN_FIELD(InputScale, stride_w),
    BITTERN_FIELD(InputScale, pad_h),      BITTERN_FIELD(InputScale, pad_w),
    BITTERN_FIELD(InputScale, dilation_h), BITTERN_FIELD(InputScale, dilation_w),
    BITTERN_FIELD(InputScale, per_sample), BITTERN_FIELD(InputScale, x),
    BITTERN_FIELD(InputScale, x_image),    BITTERN_FIELD(InputScale, x_row),
    BITTERN_FIELD(InputScale, x_pixel),    BITTERN_FIELD(InputScale, x_channel),
    BITTERN_FIELD(InputScale, means),      BITTERN_FIELD(InputScale, out)};
static_assert(is_whole(kInputScaleFields, sizeof(InputScale)));

constexpr std::array kPoolBitsFields = {
    BITTERN_FIELD(PoolBits, batch),      BITTERN_FIELD(PoolBits, height),
    BITTERN_FIELD(PoolBits, width),      BITTERN_FIELD(PoolBits, words),
    BITTERN_FIELD(PoolBits, out_height), BITTERN_FIELD(PoolBits, out_width),
    BITTERN_FIELD(PoolBits, kernel_h),   BITTERN_FIELD(PoolBits, kernel_w),
    BITTERN_FIELD(PoolBits, stride_h),   BITTERN_FIELD(PoolBits, stride_w),
    BITTERN_FIELD(PoolBits, pad_h),      BITTERN_FIELD(PoolBits, pad_w),
    BITTERN_FIELD(PoolBits, x),          BITTERN_FIELD(PoolBits, x_row),
    BITTERN_FIELD(PoolBits, x_image),    BITTERN_FIELD(PoolBits, flip),
    BITTERN_FIELD(PoolBits, out),        BITTERN_FIELD(PoolBits, out_row),
    BITTERN_FIELD(PoolBits, out_image)};
static_assert(is_whole(kPoolBitsFields, sizeof(PoolBits)));

constexpr std::array kConcatenateBitsFields = {
    BITTERN_FIELD(ConcatenateBits, batch),     BITTERN_FIELD(ConcatenateBits, height),
    BITTERN_FIELD(ConcatenateBits, width),     BITTERN_FIELD(ConcatenateBits, channels),
    BITTERN_FIELD(ConcatenateBits, offset),    BITTERN_FIELD(ConcatenateBits, x),
    BITTERN_FIELD(ConcatenateBits, x_row),     BITTERN_FIELD(ConcatenateBits, x_image),
    BITTERN_FIELD(ConcatenateBits, out_words), BITTERN_FIELD(ConcatenateBits, out),
    BITTERN_FIELD(ConcatenateBits, out_row),   BITTERN_FIELD(ConcatenateBits, out_image)};
static_assert(is_whole(kConcatenateBitsFields, sizeof(ConcatenateBits)));

constexpr std::array kRealLinearFields = {
    BITTERN_FIELD(RealLinear, rows),         BITTERN_FIELD(RealLinear, features),
    BITTERN_FIELD(RealLinear, out_features), BITTERN_FIELD(RealLinear, parts),
    BITTERN_FIELD(RealLinear, fused),        BITTERN_FIELD(RealLinear, x),
    BITTERN_FIELD(RealLinear, weights),      BITTERN_FIELD(RealLinear, bias),
    BITTERN_FIELD(RealLinear, products),     BITTERN_FIELD(RealLinear, tree),
    BITTERN_FIELD(RealLinear, out),          BITTERN_FIELD(RealLinear, out_row)};
static_assert(is_whole(kRealLinearFields, sizeof(RealLinear)));

constexpr std::array kMapImagesFields = {BITTERN_FIELD(MapImages, batch),
                                         BITTERN_FIELD(MapImages, pixels),
                                         BITTERN_FIELD(MapImages, channels),
                                         BITTERN_FIELD(MapImages, residual_pixels),
                                         BITTERN_FIELD(MapImages, factor_pixels),
                                         BITTERN_FIELD(MapImages, count),
                                         BITTERN_FIELD(MapImages, row_count),
                                         BITTERN_FIELD(MapImages, x),
                                         BITTERN_FIELD(MapImages, residual),
                                         BITTERN_FIELD(MapImages, factor),
                                         BITTERN_FIELD(MapImages, operations),
                                         BITTERN_FIELD(MapImages, rows),
                                         BITTERN_FIELD(MapImages, out)};
static_assert(is_whole(kMapImagesFields, sizeof(MapImages)));

constexpr std::array kIntegerConvFields = {BITTERN_FIELD(IntegerConv, batch),
                                           BITTERN_FIELD(IntegerConv, height),
                                           BITTERN_FIELD(IntegerConv, width),
                                           BITTERN_FIELD(IntegerConv, channels),
                                           BITTERN_FIELD(IntegerConv, out_height),
                                           BITTERN_FIELD(IntegerConv, out_width),
                                           BITTERN_FIELD(IntegerConv, out_channels),
                                           BITTERN_FIELD(IntegerConv, kernel_h),
                                           BITTERN_FIELD(IntegerConv, kernel_w),
                                           BITTERN_FIELD(IntegerConv, stride_h),
                                           BITTERN_FIELD(IntegerConv, stride_w),
                                           BITTERN_FIELD(IntegerConv, pad_top),
                                           BITTERN_FIELD(IntegerConv, pad_left),
                                           BITTERN_FIELD(IntegerConv, dilation_h),
                                           BITTERN_FIELD(IntegerConv, dilation_w),
                                           BITTERN_FIELD(IntegerConv, groups),
                                           BITTERN_FIELD(IntegerConv, zero),
                                           BITTERN_FIELD(IntegerConv, out_zero),
                                           BITTERN_FIELD(IntegerConv, low),
                                           BITTERN_FIELD(IntegerConv, high),
                                           BITTERN_FIELD(IntegerConv, ending),
                                           BITTERN_FIELD(IntegerConv, weight_bits),
                                           BITTERN_FIELD(IntegerConv, x),
                                           BITTERN_FIELD(IntegerConv, weights),
                                           BITTERN_FIELD(IntegerConv, rows),
                                           BITTERN_FIELD(IntegerConv, out)};
static_assert(is_whole(kIntegerConvFields, sizeof(IntegerConv)));

constexpr std::array kIntegerAddFields = {BITTERN_FIELD(IntegerAdd, count),
                                          BITTERN_FIELD(IntegerAdd, zero_a),
                                          BITTERN_FIELD(IntegerAdd, zero_b),
                                          BITTERN_FIELD(IntegerAdd, out_zero),
                                          BITTERN_FIELD(IntegerAdd, low),
                                          BITTERN_FIELD(IntegerAdd, high),
                                          BITTERN_FIELD(IntegerAdd, a_multiplier),
                                          BITTERN_FIELD(IntegerAdd, a_shift),
                                          BITTERN_FIELD(IntegerAdd, b_multiplier),
                                          BITTERN_FIELD(IntegerAdd, b_shift),
                                          BITTERN_FIELD(IntegerAdd, multiplier),
                                          BITTERN_FIELD(IntegerAdd, shift),
                                          BITTERN_FIELD(IntegerAdd, x),
                                          BITTERN_FIELD(IntegerAdd, residual),
                                          BITTERN_FIELD(IntegerAdd, out)};
static_assert(is_whole(kIntegerAddFields, sizeof(IntegerAdd)));

constexpr std::array kIntegerPoolFields = {
    BITTERN_FIELD(IntegerPool, batch),      BITTERN_FIELD(IntegerPool, height),
    BITTERN_FIELD(IntegerPool, width),      BITTERN_FIELD(IntegerPool, channels),
    BITTERN_FIELD(IntegerPool, out_height), BITTERN_FIELD(IntegerPool, out_width),
    BITTERN_FIELD(IntegerPool, kernel_h),   BITTERN_FIELD(IntegerPool, kernel_w),
    BITTERN_FIELD(IntegerPool, stride_h),   BITTERN_FIELD(IntegerPool, stride_w),
    BITTERN_FIELD(IntegerPool, pad_top),    BITTERN_FIELD(IntegerPool, pad_left),
    BITTERN_FIELD(IntegerPool, average),    BITTERN_FIELD(IntegerPool, low),
    BITTERN_FIELD(IntegerPool, high),       BITTERN_FIELD(IntegerPool, x),
    BITTERN_FIELD(IntegerPool, out)};
static_assert(is_whole(kIntegerPoolFields, sizeof(IntegerPool)));

constexpr std::array kIntegerTableFields = {
    BITTERN_FIELD(IntegerTable, count), BITTERN_FIELD(IntegerTable, x), BITTERN_FIELD(IntegerTable, table),
    BITTERN_FIELD(IntegerTable, out)};
static_assert(is_whole(kIntegerTableFields, sizeof(IntegerTable)));

constexpr std::array kIntegerSoftmaxFields = {
    BITTERN_FIELD(IntegerSoftmax, rows),  BITTERN_FIELD(IntegerSoftmax, answers),
    BITTERN_FIELD(IntegerSoftmax, least), BITTERN_FIELD(IntegerSoftmax, exps),
    BITTERN_FIELD(IntegerSoftmax, x),     BITTERN_FIELD(IntegerSoftmax, out)};
static_assert(is_whole(kIntegerSoftmaxFields, sizeof(IntegerSoftmax)));

constexpr std::array kIntegerMeanFields = {
    BITTERN_FIELD(IntegerMean, batch),    BITTERN_FIELD(IntegerMean, pixels),
    BITTERN_FIELD(IntegerMean, channels), BITTERN_FIELD(IntegerMean, zero),
    BITTERN_FIELD(IntegerMean, out_zero), BITTERN_FIELD(IntegerMean, low),
    BITTERN_FIELD(IntegerMean, high),     BITTERN_FIELD(IntegerMean, multiplier),
    BITTERN_FIELD(IntegerMean, shift),    BITTERN_FIELD(IntegerMean, x),
    BITTERN_FIELD(IntegerMean, out)};
static_assert(is_whole(kIntegerMeanFields, sizeof(IntegerMean)));

constexpr std::array kIntegerQuantizeFields = {
    BITTERN_FIELD(IntegerQuantize, batch),   BITTERN_FIELD(IntegerQuantize, height),
    BITTERN_FIELD(IntegerQuantize, width),   BITTERN_FIELD(IntegerQuantize, channels),
    BITTERN_FIELD(IntegerQuantize, zero),    BITTERN_FIELD(IntegerQuantize, x),
    BITTERN_FIELD(IntegerQuantize, x_image), BITTERN_FIELD(IntegerQuantize, x_row),
    BITTERN_FIELD(IntegerQuantize, x_pixel), BITTERN_FIELD(IntegerQuantize, x_channel),
    BITTERN_FIELD(IntegerQuantize, scale),   BITTERN_FIELD(IntegerQuantize, out)};
static_assert(is_whole(kIntegerQuantizeFields, sizeof(IntegerQuantize)));

constexpr std::array kIntegerDequantizeFields = {
    BITTERN_FIELD(IntegerDequantize, count), BITTERN_FIELD(IntegerDequantize, x),
    BITTERN_FIELD(IntegerDequantize, table), BITTERN_FIELD(IntegerDequantize, out)};
static_assert(is_whole(kIntegerDequantizeFields, sizeof(IntegerDequantize)));

constexpr std::array kSizesFields = {
    BITTERN_FIELD(Sizes, input_before), BITTERN_FIELD(Sizes, input),    BITTERN_FIELD(Sizes, weights),
    BITTERN_FIELD(Sizes, rows),         BITTERN_FIELD(Sizes, residual), BITTERN_FIELD(Sizes, factor),
    BITTERN_FIELD(Sizes, input_scale),  BITTERN_FIELD(Sizes, real),     BITTERN_FIELD(Sizes, bits),
    BITTERN_FIELD(Sizes, mask),         BITTERN_FIELD(Sizes, tree)};
static_assert(is_whole(kSizesFields, sizeof(Sizes)));

constexpr std::array kProgramStepFields = {BITTERN_FIELD(ProgramStep, kind),
                                           BITTERN_FIELD(ProgramStep, conv),
                                           BITTERN_FIELD(ProgramStep, tail),
                                           BITTERN_FIELD(ProgramStep, planes),
                                           BITTERN_FIELD(ProgramStep, encode),
                                           BITTERN_FIELD(ProgramStep, pool),
                                           BITTERN_FIELD(ProgramStep, real),
                                           BITTERN_FIELD(ProgramStep, input_scale),
                                           BITTERN_FIELD(ProgramStep, pool_bits),
                                           BITTERN_FIELD(ProgramStep, concatenate_bits),
                                           BITTERN_FIELD(ProgramStep, linear),
                                           BITTERN_FIELD(ProgramStep, map),
                                           BITTERN_FIELD(ProgramStep, integer_conv),
                                           BITTERN_FIELD(ProgramStep, integer_add),
                                           BITTERN_FIELD(ProgramStep, integer_pool),
                                           BITTERN_FIELD(ProgramStep, integer_table),
                                           BITTERN_FIELD(ProgramStep, integer_softmax),
                                           BITTERN_FIELD(ProgramStep, integer_mean),
                                           BITTERN_FIELD(ProgramStep, integer_quantize),
                                           BITTERN_FIELD(ProgramStep, integer_dequantize),
                                           BITTERN_FIELD(ProgramStep, sizes)};
static_assert(is_whole(kProgramStepFields, sizeof(ProgramStep)));

}  // namespace bittern
