// The product: a tile of rows and panels is kept in registers while the inputs go by.
//
// An output is the sum over its inputs in their order, whatever tile it is computed in, so a row's
// outputs do not depend on the rows beside it.

#include "product.h"

#include "vector.h"

#define TILE_ROWS 6

// What a tile fetches from memory while it computes: nothing, the weights that it will come to in
// so many bytes (further than the processor's own prefetching looks, which ends with a page), or
// those of the panels behind its own.
enum Fetch { NOTHING = 0, OWN = 8192, NEXT = -1 };

static const int32_t kWeightBytes[] = {4, 2, 2, 1};

INLINE v8 widened(int32_t kind, const uint8_t *from) {
  if (kind == FLOAT32) return v8_load((const float *)from);
  if (kind == FLOAT16) return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
  if (kind == BFLOAT16) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}

typedef struct {
  const Weights *weights;
  const float *x;
  int64_t x_stride;
  float *y;
  int64_t y_stride;
  int32_t add;
} Operands;

INLINE void put(const Operands *o, int32_t row, int32_t column, v8 left, v8 right) {
  const Weights *weights = o->weights;
  float *to = o->y + row * o->y_stride + column;
  if (weights->scales) {
    left = _mm256_mul_ps(left, v8_load(weights->scales + column));
    right = _mm256_mul_ps(right, v8_load(weights->scales + column + 8));
  }
  if (weights->bias) {
    left = _mm256_add_ps(left, v8_load(weights->bias + column));
    right = _mm256_add_ps(right, v8_load(weights->bias + column + 8));
  }
  if (weights->outputs - column >= PANEL) {
    if (o->add) {
      left = _mm256_add_ps(left, v8_load(to));
      right = _mm256_add_ps(right, v8_load(to + 8));
    }
    v8_store(to, left);
    v8_store(to + 8, right);
    return;
  }
  float some[PANEL];
  v8_store(some, left);
  v8_store(some + 8, right);
  for (int32_t i = 0; i < weights->outputs - column; i++) to[i] = o->add ? to[i] + some[i] : some[i];
}

// ``rows`` rows from ``row`` on and ``panels`` panels from ``panel`` on. All of its counts are
// constants where it is called, so the loops over them are unrolled and the sums are registers.
INLINE void tile(const Operands *o, const int32_t kind, const int32_t rows, const int32_t panels,
                 const int32_t fetch, int32_t row, int32_t panel) {
  const int64_t inputs = o->weights->inputs, step = PANEL * kWeightBytes[kind];
  const float *x = o->x + row * o->x_stride;
  const uint8_t *w = (const uint8_t *)o->weights->panels + panel * inputs * step;
  v8 left[TILE_ROWS][2], right[TILE_ROWS][2];
#pragma GCC unroll 6
  for (int32_t r = 0; r < rows; r++) {
#pragma GCC unroll 2
    for (int32_t p = 0; p < panels; p++) left[r][p] = right[r][p] = v8_zero();
  }
  for (int64_t k = 0; k < inputs; k++) {
#pragma GCC unroll 2
    for (int32_t p = 0; p < panels; p++) {
      const uint8_t *at = w + (p * inputs + k) * step;
      if (fetch == OWN) _mm_prefetch((const char *)(at + OWN), _MM_HINT_T0);
      if (fetch == NEXT) _mm_prefetch((const char *)(at + panels * inputs * step), _MM_HINT_T1);
      v8 a = widened(kind, at), b = widened(kind, at + step / 2);
#pragma GCC unroll 6
      for (int32_t r = 0; r < rows; r++) {
        v8 value = v8_all(x[r * o->x_stride + k]);
        left[r][p] = v8_fma(value, a, left[r][p]);
        right[r][p] = v8_fma(value, b, right[r][p]);
      }
    }
  }
#pragma GCC unroll 6
  for (int32_t r = 0; r < rows; r++) {
#pragma GCC unroll 2
    for (int32_t p = 0; p < panels; p++) {
      put(o, row + r, (panel + p) * PANEL, left[r][p], right[r][p]);
    }
  }
}

INLINE void some_rows(const Operands *o, const int32_t kind, const int32_t fetch, int32_t rows,
                      int32_t row, int32_t panel) {
  switch (rows) {
    case 1: tile(o, kind, 1, 1, fetch, row, panel); break;
    case 2: tile(o, kind, 2, 1, fetch, row, panel); break;
    case 3: tile(o, kind, 3, 1, fetch, row, panel); break;
    case 4: tile(o, kind, 4, 1, fetch, row, panel); break;
    case 5: tile(o, kind, 5, 1, fetch, row, panel); break;
    default: tile(o, kind, 6, 1, fetch, row, panel); break;
  }
}

// A panel for all rows. They are cut evenly, so that no tile is much smaller than the others; the
// first one reads the panel from memory, and the last one has time to fetch the next.
INLINE void whole_panel(const Operands *o, const int32_t kind, int32_t rows, int32_t panel) {
  const int32_t parts = (rows + TILE_ROWS - 1) / TILE_ROWS;
  for (int32_t part = 0, from = 0; part < parts; part++) {
    const int32_t to = (int32_t)((int64_t)rows * (part + 1) / parts);
    if (!part) some_rows(o, kind, OWN, to - from, from, panel);
    else if (part == parts - 1) some_rows(o, kind, NEXT, to - from, from, panel);
    else some_rows(o, kind, NOTHING, to - from, from, panel);
    from = to;
  }
}

// With few rows two panels at once, for a sum waits for the one before it.
INLINE void all_rows(const Operands *o, const int32_t kind, int32_t rows, int32_t first,
                     int32_t last) {
  int32_t panel = first;
  for (; panel + 2 <= last && rows <= FEW_ROWS; panel += 2) {
    switch (rows) {
      case 1: tile(o, kind, 1, 2, OWN, 0, panel); break;
      case 2: tile(o, kind, 2, 2, OWN, 0, panel); break;
      default: tile(o, kind, 3, 2, OWN, 0, panel); break;
    }
  }
  for (; panel < last; panel++) whole_panel(o, kind, rows, panel);
}

static void multiply_f32(const Operands *o, int32_t rows, int32_t first, int32_t last) {
  all_rows(o, FLOAT32, rows, first, last);
}

static void multiply_f16(const Operands *o, int32_t rows, int32_t first, int32_t last) {
  all_rows(o, FLOAT16, rows, first, last);
}

static void multiply_bf16(const Operands *o, int32_t rows, int32_t first, int32_t last) {
  all_rows(o, BFLOAT16, rows, first, last);
}

static void multiply_int8(const Operands *o, int32_t rows, int32_t first, int32_t last) {
  all_rows(o, INT8, rows, first, last);
}

void multiply(const Weights *weights, int32_t kind, const float *x, int64_t x_stride, int32_t rows,
              int32_t first, int32_t last, float *y, int64_t y_stride, int32_t add) {
  static void (*const products[])(const Operands *, int32_t, int32_t, int32_t) = {
      multiply_f32, multiply_f16, multiply_bf16, multiply_int8};
  const Operands operands = {weights, x, x_stride, y, y_stride, add};
  products[kind](&operands, rows, first, last);
}
