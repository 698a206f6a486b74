/* What reading out and measuring share: an operator's kernel, one call of it, and the ADC codes that both begin with. */
#ifndef PCMEDGE_CODES_H
#define PCMEDGE_CODES_H

#include "ort.h"

#include <stdatomic.h>

#define INLINE static inline __attribute__((always_inline))

/* Elements one thread takes at a time, and how wide a row of channels is made: both fit the first cache. */
#define PART 16384
#define ROW 512

enum { MAX_RANK = 8 };

typedef enum { CONVERTS, READS_OUT, MEASURES } Does;

typedef struct {
  OrtCustomOp base;
  const char *name;
  int in, out;
  Does does;
} Operator;

typedef struct {
  const OrtApi *api;
  const Operator *op;
  _Atomic(const float *) checked[8]; /* constants, by input, whose size has been found right */
  int64_t channels, last, scale_at, mean_at, variance_at, measured, offset, residual, noise, values, codes;
  float epsilon, adc_low, adc_high, zero, lower, upper, step, low, high;
} Kernel;

/* One call: the tensors, and per channel (or per element of a row) what it is multiplied with. */
typedef struct {
  const Kernel *kernel;
  const void *in;
  const float *residual, *gaussian, *signs, *sigma;
  float *values;
  void *codes;
  const float *scale, *factor, *offset;
  _Atomic(int64_t) *sums; /* of the codes by channel, and behind them of their squares */
  size_t outer, inner, width, rows_per_part;
} Job;

INLINE float clamped(float x, float low, float high) {
  x = x > low ? x : low;
  return x < high ? x : high;
}

/* Half to even, for |x| < 2^22: what is behind the point does not fit beside this number. */
INLINE float rounded(float x) { return (x + 12582912.0f) - 12582912.0f; }

/* The same as a whole number of at most 22 bits: it is what stands in the lowest bits of the first sum. */
INLINE uint32_t whole(float x) {
  const union {
    float sum;
    uint32_t bits;
  } made = {x + 12582912.0f};
  return made.bits;
}

typedef struct {
  const void *in;
  const float *residual, *gaussian;
  float *values;
  void *codes;
} Span;

typedef struct {
  float low, high, zero;
  uint8_t low_u, high_u;
  int8_t low_i, high_i;
} Adc;

INLINE Adc adc_of(const int in, const Kernel *k) {
  Adc adc = {k->adc_low, k->adc_high, k->zero, 0, 0, 0, 0};
  if (in == ELEMENT_UINT8) adc.low_u = (uint8_t)k->adc_low, adc.high_u = (uint8_t)k->adc_high;
  if (in == ELEMENT_INT8) adc.low_i = (int8_t)k->adc_low, adc.high_i = (int8_t)k->adc_high;
  return adc;
}

/* The ADC code of a product; of a sum in 8 bits that is there already, only its limits. */
INLINE float code_at(const int in, const int noise, const void *p, const float *g, const float spread, const size_t i,
                     const Adc adc) {
  if (in == ELEMENT_FLOAT) {
    float x = ((const float *)p)[i];
    if (noise) x = x + g[i] * spread;
    return rounded(clamped(x, adc.low, adc.high));
  }
  if (in == ELEMENT_UINT8) {
    uint8_t code = ((const uint8_t *)p)[i];
    code = code > adc.low_u ? code : adc.low_u;
    code = code < adc.high_u ? code : adc.high_u;
    return (float)code - adc.zero;
  }
  int8_t code = ((const int8_t *)p)[i];
  code = code > adc.low_i ? code : adc.low_i;
  code = code < adc.high_i ? code : adc.high_i;
  return (float)code - adc.zero;
}

static size_t size_of(int element) { return element == ELEMENT_FLOAT ? sizeof(float) : 1; }

static Span span_at(const Job *job, size_t first) {
  const Kernel *k = job->kernel;
  Span at = {(const char *)job->in + first * size_of(k->op->in), NULL, NULL, NULL, NULL};
  if (job->residual) at.residual = job->residual + first;
  if (job->gaussian) at.gaussian = job->gaussian + first;
  if (job->values) at.values = job->values + first;
  if (job->codes) at.codes = (char *)job->codes + first * size_of(k->op->out);
  return at;
}

#endif
