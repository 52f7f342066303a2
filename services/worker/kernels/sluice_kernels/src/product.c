// The product: a tile of rows and panels is kept in registers while the inputs go by.
//
// An output is the sum over its inputs in their order, whatever tile it is computed in, so a row's
// outputs do not depend on the rows beside it.

#include "product.h"

#include "vector.h"

// How far ahead of itself a tile fetches weights, in bytes: further than the processor's own
// prefetching looks, which ends with a page.
#define AHEAD 8192

static const int32_t kWeightBytes[] = {4, 2, 2, 1};

INLINE v16 widened(int32_t kind, const uint8_t *from) {
  if (kind == FLOAT32) return v16_load((const float *)from);
  if (kind == FLOAT16) return v16_from_f16(from);
  if (kind == BFLOAT16) return v16_from_bf16(from);
  return v16_from_int8(from);
}

typedef struct {
  const Weights *weights;
  const float *x;
  int64_t x_stride;
  float *y;
  int64_t y_stride;
  int32_t add;
} Operands;

// What becomes of the sums of a row and a panel.
static void put(const Operands *o, int32_t row, int32_t column, const float *sums) {
  const Weights *weights = o->weights;
  float *to = o->y + row * o->y_stride + column;
  v16 sum = v16_load(sums);
  if (weights->scales) sum = v16_mul(sum, v16_load(weights->scales + column));
  if (weights->bias) sum = v16_add(sum, v16_load(weights->bias + column));
  if (weights->outputs - column >= PANEL) {
    v16_store(to, o->add ? v16_add(sum, v16_load(to)) : sum);
    return;
  }
  float some[PANEL];
  v16_store(some, sum);
  for (int32_t i = 0; i < weights->outputs - column; i++) to[i] = o->add ? to[i] + some[i] : some[i];
}

// ``rows`` rows from ``row`` on and ``panels`` panels from ``panel`` on. All of its counts are
// constants where it is called, so the loops over them are unrolled and the sums are registers.
// It fetches what lies ``ahead`` bytes behind what it reads.
INLINE void tile(const Operands *o, const int32_t kind, const int32_t rows, const int32_t panels,
                 int32_t row, int32_t panel, int64_t ahead) {
  const int64_t inputs = o->weights->inputs, step = PANEL * kWeightBytes[kind];
  const float *x = o->x + row * o->x_stride;
  const uint8_t *w = (const uint8_t *)o->weights->panels + panel * inputs * step;
  v16 sums[TILE_ROWS][FEW_ROWS_PANELS];
#pragma GCC unroll 12
  for (int32_t r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int32_t p = 0; p < panels; p++) sums[r][p] = v16_zero();
  }
  for (int64_t k = 0; k < inputs; k++) {
    v16 weight[FEW_ROWS_PANELS];
#pragma GCC unroll 4
    for (int32_t p = 0; p < panels; p++) {
      const uint8_t *at = w + (p * inputs + k) * step;
      _mm_prefetch((const char *)(at + ahead), _MM_HINT_T0);
      weight[p] = widened(kind, at);
    }
#pragma GCC unroll 12
    for (int32_t r = 0; r < rows; r++) {
      v16 value = v16_all(x[r * o->x_stride + k]);
#pragma GCC unroll 4
      for (int32_t p = 0; p < panels; p++) sums[r][p] = v16_fma(value, weight[p], sums[r][p]);
    }
  }
  float kept[TILE_ROWS][FEW_ROWS_PANELS][PANEL];
#pragma GCC unroll 12
  for (int32_t r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int32_t p = 0; p < panels; p++) v16_store(kept[r][p], sums[r][p]);
  }
  for (int32_t i = 0; i < rows * panels; i++) {
    const int32_t r = i / panels, p = i % panels;
    put(o, row + r, (panel + p) * PANEL, kept[r][p]);
  }
}

#define ROWS(count)                                     \
  case count:                                           \
    tile(o, kind, count, panels, row, panel, ahead);    \
    return;

INLINE void some_rows(const Operands *o, const int32_t kind, const int32_t panels, int32_t rows,
                      int32_t row, int32_t panel, int64_t ahead) {
  switch (rows) {
    ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#if TILE_ROWS > 6
    ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12)
#endif
  }
}

// ``panels`` panels for all rows. They are cut evenly, so that no tile is much smaller than the
// others; the first one reads the panels from memory, and the last one has time to fetch the next.
INLINE void whole_panels(const Operands *o, const int32_t kind, const int32_t panels, int32_t rows,
                         int32_t panel) {
  const int32_t parts = (rows + TILE_ROWS - 1) / TILE_ROWS;
  const int64_t next = (int64_t)panels * o->weights->inputs * PANEL * kWeightBytes[kind];
  for (int32_t part = 0, from = 0; part < parts; part++) {
    const int32_t to = (int32_t)((int64_t)rows * (part + 1) / parts);
    const int64_t ahead = !part ? AHEAD : part == parts - 1 ? next : 0;
    some_rows(o, kind, panels, to - from, from, panel, ahead);
    from = to;
  }
}

// With few rows more panels at once, for a sum waits for the one before it.
INLINE void all_rows(const Operands *o, const int32_t kind, int32_t rows, int32_t first,
                     int32_t last) {
  int32_t panel = first;
  for (; panel + FEW_ROWS_PANELS <= last && rows <= FEW_ROWS; panel += FEW_ROWS_PANELS) {
    switch (rows) {
      case 1: tile(o, kind, 1, FEW_ROWS_PANELS, 0, panel, AHEAD); break;
      case 2: tile(o, kind, 2, FEW_ROWS_PANELS, 0, panel, AHEAD); break;
      default: tile(o, kind, 3, FEW_ROWS_PANELS, 0, panel, AHEAD); break;
    }
  }
  for (; panel + TILE_PANELS <= last; panel += TILE_PANELS) {
    whole_panels(o, kind, TILE_PANELS, rows, panel);
  }
#if TILE_PANELS > 1
  for (; panel < last; panel++) whole_panels(o, kind, 1, rows, panel);
#endif
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

int32_t best_panels(int32_t rows) { return rows <= FEW_ROWS ? FEW_ROWS_PANELS : TILE_PANELS; }
