// Vectors of eight floats, and the functions of them that are computed here.
//
// Whatever is computed with them must not depend on what else is computed beside it, so every
// sum has an order of its own that nothing changes, and products are fused where it is written.

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

// The sums of four vectors.
INLINE __m128 v8_sums(v8 a, v8 b, v8 c, v8 d) {
  v8 pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}

// e^x to about one unit in the last place, by 2^n * e^r with |r| <= ln(2) / 2 and a polynomial
// (the coefficients are those of Cephes' expf). -inf gives 0; results below 2^-126 are 0.
INLINE v8 v8_exp(v8 x) {
  const v8 low = v8_all(-87.33654f);
  v8 vanishes = _mm256_cmp_ps(x, low, _CMP_LT_OQ);
  // The operands' order matters: min and max give their second one when the first is not a number.
  v8 within = _mm256_max_ps(low, _mm256_min_ps(v8_all(88.3762626f), x));
  v8 n = _mm256_round_ps(_mm256_mul_ps(within, v8_all(1.44269504088896341f)),
                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  v8 r = v8_fma(n, v8_all(-0.693359375f), within);
  r = v8_fma(n, v8_all(2.12194440e-4f), r);
  v8 p = v8_all(1.9875691500e-4f);
  p = v8_fma(p, r, v8_all(1.3981999507e-3f));
  p = v8_fma(p, r, v8_all(8.3334519073e-3f));
  p = v8_fma(p, r, v8_all(4.1665795894e-2f));
  p = v8_fma(p, r, v8_all(1.6666665459e-1f));
  p = v8_fma(p, r, v8_all(5.0000001201e-1f));
  p = v8_fma(_mm256_mul_ps(r, r), p, _mm256_add_ps(r, v8_all(1.0f)));
  __m256i exponent = _mm256_slli_epi32(
      _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_andnot_ps(vanishes, _mm256_mul_ps(p, _mm256_castsi256_ps(exponent)));
}

// x / (1 + e^-x)
INLINE v8 v8_silu(v8 x) {
  v8 minus = _mm256_xor_ps(x, v8_all(-0.0f));
  return _mm256_div_ps(x, _mm256_add_ps(v8_all(1.0f), v8_exp(minus)));
}
