/* Sums of ADC codes and of their squares by channel: what mean and variance are made of.
 *
 * Codes are whole numbers, so the sums are exact, in whatever order threads add them.
 */
#ifndef PCMEDGE_MEASURE_H
#define PCMEDGE_MEASURE_H

#include "codes.h"

#include <math.h>
#include <stdatomic.h>

/* Adds up the codes of n elements of one channel, and their squares. Of PART elements 32 bits hold both. */
INLINE void tally(const int in, const int noise, const int store, const Adc adc, const Span at, const float spread,
                  const size_t n, int64_t *sum, int64_t *squares) {
  const void *restrict p = at.in;
  const float *restrict g = at.gaussian;
  int8_t *restrict codes = at.codes;
  int32_t s = 0, q = 0;
#pragma omp simd reduction(+ : s, q)
  for (size_t i = 0; i < n; i++) {
    const int32_t code = (int32_t)code_at(in, noise, p, g, spread, i, adc);
    if (store) codes[i] = (int8_t)code;
    s += code;
    q += code * code;
  }
  *sum += s;
  *squares += q;
}

static void tally_planes(void *data, size_t part) {
  const Job *job = data;
  const Kernel *k = job->kernel;
  const size_t channels = (size_t)k->channels;
  size_t first = part * job->rows_per_part, stop = first + job->rows_per_part;
  if (stop > job->outer) stop = job->outer;
  for (size_t plane = first; plane < stop; plane++) {
    const size_t c = plane % channels;
    const float spread = k->noise ? job->signs[plane] * job->sigma[c] : 0.0f;
    int64_t sum = 0, squares = 0;
    for (size_t done = 0; done < job->inner; done += PART) {
      const size_t n = job->inner - done < PART ? job->inner - done : PART;
      const Span at = span_at(job, plane * job->inner + done);
      if (k->op->in == ELEMENT_UINT8)
        tally(ELEMENT_UINT8, 0, 0, adc_of(ELEMENT_UINT8, k), at, 0.0f, n, &sum, &squares);
      else if (k->op->in == ELEMENT_INT8)
        tally(ELEMENT_INT8, 0, 0, adc_of(ELEMENT_INT8, k), at, 0.0f, n, &sum, &squares);
      else if (k->noise)
        tally(ELEMENT_FLOAT, 1, 1, adc_of(ELEMENT_FLOAT, k), at, spread, n, &sum, &squares);
      else
        tally(ELEMENT_FLOAT, 0, 1, adc_of(ELEMENT_FLOAT, k), at, 0.0f, n, &sum, &squares);
    }
    atomic_fetch_add_explicit(&job->sums[c], sum, memory_order_relaxed);
    atomic_fetch_add_explicit(&job->sums[channels + c], squares, memory_order_relaxed);
  }
}

/* The same of n elements of a channel each. */
INLINE void tally_vector(const int in, const Adc adc, const void *p, const size_t n, int32_t *restrict sums,
                         int32_t *restrict squares) {
#pragma omp simd
  for (size_t i = 0; i < n; i++) {
    const int32_t code = (int32_t)code_at(in, 0, p, NULL, 0.0f, i, adc);
    sums[i] += code;
    squares[i] += code * code;
  }
}

static void tally_rows(void *data, size_t part) {
  const Job *job = data;
  const Kernel *k = job->kernel;
  const size_t channels = (size_t)k->channels;
  size_t first = part * job->rows_per_part, stop = first + job->rows_per_part;
  if (stop > job->outer) stop = job->outer;
  for (size_t begin = 0; begin < job->width; begin += ROW) {
    const size_t width = job->width - begin < ROW ? job->width - begin : ROW;
    int32_t sums[ROW] = {0}, squares[ROW] = {0};
    for (size_t at = first * channels + begin, end = stop * channels; at < end; at += job->width) {
      const size_t n = end - at < width ? end - at : width;
      if (k->op->in == ELEMENT_UINT8)
        tally_vector(ELEMENT_UINT8, adc_of(ELEMENT_UINT8, k), (const uint8_t *)job->in + at, n, sums, squares);
      else
        tally_vector(ELEMENT_INT8, adc_of(ELEMENT_INT8, k), (const int8_t *)job->in + at, n, sums, squares);
    }
    for (size_t i = channels; i < width; i++) {
      sums[i % channels] += sums[i];
      squares[i % channels] += squares[i];
    }
    for (size_t i = 0; i < width && i < channels; i++) {
      atomic_fetch_add_explicit(&job->sums[begin + i], sums[i], memory_order_relaxed);
      atomic_fetch_add_explicit(&job->sums[channels + begin + i], squares[i], memory_order_relaxed);
    }
  }
}

/* Mean and variance of scale * code, of the sums of n codes. Squares are taken from the whole number next to the mean, which
 * leaves nothing to cancel. */
static void moments(int64_t sum, int64_t squares, int64_t n, float scale, float *mean, float *variance) {
  const double each = (double)n;
  const int64_t middle = n ? llround((double)sum / each) : 0;
  const double left = (double)(sum - n * middle) / each;
  const double about = (double)(squares - 2 * middle * sum + n * middle * middle) / each;
  *mean = (float)((double)scale * ((double)sum / each));
  *variance = (float)((double)scale * (double)scale * (about - left * left));
}

#endif
