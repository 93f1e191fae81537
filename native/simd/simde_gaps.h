// The few AVX-512 intrinsics that avx512.h uses and SIMDe 0.7.4 lacks; for the emulated test build only.
#pragma once

static inline simde__m512 bittern_cvtepi32_ps(simde__m512i x) {
  alignas(64) int in[16];
  alignas(64) float out[16];
  simde_mm512_store_si512(in, x);
  for (int i = 0; i < 16; ++i) out[i] = static_cast<float>(in[i]);
  return simde_mm512_load_ps(out);
}

#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(x) bittern_cvtepi32_ps(x)
