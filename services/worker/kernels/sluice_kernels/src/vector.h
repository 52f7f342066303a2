// Vectors of eight and of sixteen floats, and the functions of them that are computed here.
//
// Whatever is computed with them must not depend on what else is computed beside it, so every
// sum has an order of its own that nothing changes, and products are fused where it is written.
// Sixteen floats are one register with AVX-512 and two without, and lane by lane they go through
// the same: the same bits come out on either kind of machine.

#pragma once

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef __m256 v8;

INLINE v8 v8_load(const float *from) { return _mm256_loadu_ps(from); }
INLINE void v8_store(float *to, v8 x) { _mm256_storeu_ps(to, x); }
INLINE v8 v8_all(float x) { return _mm256_set1_ps(x); }
INLINE v8 v8_zero(void) { return _mm256_setzero_ps(); }
INLINE v8 v8_fma(v8 a, v8 b, v8 c) { return _mm256_fmadd_ps(a, b, c); }

// The sum of the eight, always in the same order.
INLINE float v8_sum(v8 x) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#ifdef __AVX512F__
#include "vector_avx512.h"
#else
#include "vector_avx2.h"
#endif

// e^x to about one unit in the last place, by 2^n * e^r with |r| <= ln(2) / 2 and a polynomial
// (the coefficients are those of Cephes' expf). -inf gives 0; results below 2^-126 are 0.
INLINE v16 v16_exp(v16 x) {
  const v16 low = v16_all(-87.33654f);
  // The operands' order matters: min and max give their second one when the first is not a number.
  v16 within = v16_max(low, v16_min(v16_all(88.3762626f), x));
  v16 n = v16_round(v16_mul(within, v16_all(1.44269504088896341f)));
  v16 r = v16_fma(n, v16_all(-0.693359375f), within);
  r = v16_fma(n, v16_all(2.12194440e-4f), r);
  v16 p = v16_all(1.9875691500e-4f);
  p = v16_fma(p, r, v16_all(1.3981999507e-3f));
  p = v16_fma(p, r, v16_all(8.3334519073e-3f));
  p = v16_fma(p, r, v16_all(4.1665795894e-2f));
  p = v16_fma(p, r, v16_all(1.6666665459e-1f));
  p = v16_fma(p, r, v16_all(5.0000001201e-1f));
  p = v16_fma(v16_mul(r, r), p, v16_add(r, v16_all(1.0f)));
  return v16_zero_where_less(x, low, v16_mul(p, v16_power_of_two(n)));
}

// x / (1 + e^-x)
INLINE v16 v16_silu(v16 x) {
  return v16_div(x, v16_add(v16_all(1.0f), v16_exp(v16_negative(x))));
}
