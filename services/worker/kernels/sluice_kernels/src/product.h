// Linear layers over packed weights.

#pragma once

#include <stdint.h>

// A panel has the weights of so many outputs, input by input.
#define PANEL 16

enum WeightKind { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2, INT8 = 3 };

// y = x W^T + bias. ``panels``: [outputs / PANEL, inputs, PANEL], zeros behind the last output;
// ``scales`` (INT8 alone) and ``bias`` are as long as the panels are wide, or null.
typedef struct {
  const void *panels;
  const float *scales;
  const float *bias;
  int32_t inputs;
  int32_t outputs;
} Weights;

// How many panels are best computed by one call: a power of two.
int32_t best_panels(int32_t rows);

// Outputs of panels ``first`` to ``last`` of ``rows`` rows: y = product, or y += product.
void multiply(const Weights *weights, int32_t kind, const float *x, int64_t x_stride, int32_t rows,
              int32_t first, int32_t last, float *y, int64_t y_stride, int32_t add);
