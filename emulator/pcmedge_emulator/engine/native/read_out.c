/* What follows a product on the chip, in one pass over memory, as operators of ONNX Runtime.
 *
 *   ReadOut   p (+ gaussian * (sign * sigma)) -> ADC code -> * scale -> batch norm -> + residual -> limits
 *             -> values and/or the DAC codes of the next layer
 *   Measure   p (+ gaussian * (sign * sigma)) -> ADC code -> mean and variance of code * scale; and the codes, for a
 *             ReadOut that normalises by what was measured
 *   Convert   x -> DAC codes
 *
 * Every step rounds as the standard operators do that it stands for (see fuse.py), in the same order; nothing is
 * contracted (-ffp-contract=off), so results are the same bits. Codes are clamped before they are rounded, which is the
 * same because the limits are whole; a NaN becomes the lowest code, as MLAS has it on x86. Only Measure is not the same:
 * codes are whole numbers, so its sums are exact, in whatever order threads add them; ONNX Runtime rounds every addition.
 */
#include "measure.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* x / step, correctly rounded. With the correctly rounded reciprocal at hand, two fused operations correct the
 * product (Markstein, IBM J. Res. Dev. 34, 1990); they take a fraction of the time of a division. */
INLINE float divided(float x, float step, float reciprocal) {
#if defined(__FMA__) || defined(__aarch64__)
  const float q = x * reciprocal;
  return __builtin_fmaf(__builtin_fmaf(-q, step, x), reciprocal, q);
#else
  (void)reciprocal;
  return x / step;
#endif
}

/* What is rounded to a DAC code. `low` and `high` are x of the lowest and the highest one: clamped first, no x is so large that its
 * quotient could not be corrected. */
INLINE float quotient(float x, float step, float reciprocal, float low, float high) {
  return divided(clamped(x, low, high), step, reciprocal);
}

/* n elements. What is constant here is constant in every copy of it that the compiler makes. */
INLINE void span(const int in, const int noise, const int residual, const int values, const int out, const int vector,
                 const Kernel *k, const Span at, const float *scale, const float *factor, const float *offset,
                 const float *spread, const size_t n) {
  const Adc adc = adc_of(in, k);
  const float lower = k->lower, upper = k->upper;
  const float step = k->step, reciprocal = 1.0f / k->step;
  const float low = k->low * k->step, high = k->high * k->step;
  const float s0 = scale[0], f0 = factor[0], o0 = offset[0], g0 = noise ? spread[0] : 0.0f;
  const void *restrict p = at.in;
  const float *restrict r = at.residual, *restrict g = at.gaussian;
  float *restrict y = at.values, *restrict cf = at.codes;
  uint8_t *restrict cu = at.codes;
  int8_t *restrict ci = at.codes;
#pragma omp simd
  for (size_t i = 0; i < n; i++) {
    float x = code_at(in, noise, p, g, noise && vector ? spread[i] : g0, i, adc);
    x = x * (vector ? scale[i] : s0);
    x = x * (vector ? factor[i] : f0);
    x = x + (vector ? offset[i] : o0);
    if (residual) x = x + r[i];
    x = x < lower ? lower : x; /* a NaN stays one, as in Relu */
    x = x > upper ? upper : x;
    if (values) y[i] = x;
    if (out) {
      x = quotient(x, step, reciprocal, low, high);
      if (out == ELEMENT_FLOAT) cf[i] = rounded(x);
      if (out == ELEMENT_UINT8) cu[i] = (uint8_t)whole(x);
      if (out == ELEMENT_INT8) ci[i] = (int8_t)whole(x);
    }
  }
}

#define SPAN(in, noise, residual, values, out)                                                                   \
  if (vector)                                                                                                    \
    span(in, noise, residual, values, out, 1, k, at, scale, factor, offset, spread, n);                          \
  else                                                                                                           \
    span(in, noise, residual, values, out, 0, k, at, scale, factor, offset, spread, n);                          \
  return

#define OUTPUTS(in, noise, residual, out)        \
  if (k->values && k->codes) {                   \
    SPAN(in, noise, residual, 1, out);           \
  } else if (k->codes) {                         \
    SPAN(in, noise, residual, 0, out);           \
  } else {                                       \
    SPAN(in, noise, residual, 1, 0);             \
  }

#define RESIDUALS(in, noise, out)   \
  if (k->residual) {                \
    OUTPUTS(in, noise, 1, out)      \
  } else {                          \
    OUTPUTS(in, noise, 0, out)      \
  }

static void run_span(const Kernel *k, const Span at, const float *scale, const float *factor, const float *offset,
                     const float *spread, const size_t n, const int vector) {
  if (k->op->in == ELEMENT_FLOAT) {
    if (k->noise) {
      RESIDUALS(ELEMENT_FLOAT, 1, ELEMENT_FLOAT)
    } else {
      RESIDUALS(ELEMENT_FLOAT, 0, ELEMENT_FLOAT)
    }
  } else if (k->op->in == ELEMENT_UINT8) {
    if (k->op->out == ELEMENT_UINT8) {
      RESIDUALS(ELEMENT_UINT8, 0, ELEMENT_UINT8)
    } else {
      RESIDUALS(ELEMENT_UINT8, 0, ELEMENT_INT8)
    }
  } else {
    if (k->op->out == ELEMENT_UINT8) {
      RESIDUALS(ELEMENT_INT8, 0, ELEMENT_UINT8)
    } else if (k->op->out == ELEMENT_INT8) {
      RESIDUALS(ELEMENT_INT8, 0, ELEMENT_INT8)
    } else {
      RESIDUALS(ELEMENT_INT8, 0, ELEMENT_FLOAT)
    }
  }
}

/* Planes of one channel each. */
static void planes(void *data, size_t part) {
  const Job *job = data;
  size_t first = part * job->rows_per_part, stop = first + job->rows_per_part;
  if (stop > job->outer) stop = job->outer;
  for (size_t plane = first; plane < stop; plane++) {
    const size_t c = plane % (size_t)job->kernel->channels;
    const float spread = job->kernel->noise ? job->signs[plane] * job->sigma[c] : 0.0f;
    run_span(job->kernel, span_at(job, plane * job->inner), job->scale + c, job->factor + c, job->offset + c, &spread,
             job->inner, 0);
  }
}

/* Vectors of all channels; several make one row where nothing differs between them. */
static void rows(void *data, size_t part) {
  const Job *job = data;
  const size_t channels = (size_t)job->kernel->channels;
  size_t first = part * job->rows_per_part, stop = first + job->rows_per_part;
  if (stop > job->outer) stop = job->outer;
  if (!job->kernel->noise) {
    for (size_t at = first * channels, end = stop * channels; at < end; at += job->width) {
      const size_t n = end - at < job->width ? end - at : job->width;
      run_span(job->kernel, span_at(job, at), job->scale, job->factor, job->offset, NULL, n, 1);
    }
    return;
  }
  float spread[ROW];
  for (size_t row = first; row < stop; row++)
    for (size_t c = 0; c < channels; c += ROW) {
      const size_t n = channels - c < ROW ? channels - c : ROW;
      for (size_t i = 0; i < n; i++) spread[i] = job->signs[row] * job->sigma[c + i];
      run_span(job->kernel, span_at(job, row * channels + c), job->scale + c, job->factor + c, job->offset + c, spread,
               n, 1);
    }
}

static void converted(void *data, size_t part) {
  const Job *job = data;
  const Kernel *k = job->kernel;
  const size_t first = part * PART, stop = first + PART < job->outer ? first + PART : job->outer;
  const float *restrict x = job->in;
  const float step = k->step, reciprocal = 1.0f / k->step;
  const float low = k->low * k->step, high = k->high * k->step;
  float *restrict cf = job->codes;
  uint8_t *restrict cu = job->codes;
  int8_t *restrict ci = job->codes;
#define EACH(store) \
  _Pragma("omp simd") for (size_t i = first; i < stop; i++) { \
    const float code = quotient(x[i], step, reciprocal, low, high); \
    store; \
  }
  if (k->op->out == ELEMENT_FLOAT) {
    EACH(cf[i] = rounded(code))
  } else if (k->op->out == ELEMENT_UINT8) {
    EACH(cu[i] = (uint8_t)whole(code))
  } else {
    EACH(ci[i] = (int8_t)whole(code))
  }
}

#define TRY(call)                        \
  do {                                   \
    OrtStatus *status = (call);          \
    if (status) return status;           \
  } while (0)
#define REFUSE(text) return api->CreateStatus(ORT_INVALID_ARGUMENT, "pcmedge: " text)

/* Data of input `index`, and how many float32 values it holds. */
static OrtStatus *sized(const OrtApi *api, const OrtKernelContext *context, size_t index, size_t *count,
                        const float **data) {
  const OrtValue *value = NULL;
  OrtShapeInfo *info = NULL;
  TRY(api->KernelContext_GetInput(context, index, &value));
  if (!value) REFUSE("an input is missing");
  TRY(api->GetTensorTypeAndShape(value, &info));
  OrtStatus *status = api->GetTensorShapeElementCount(info, count);
  api->ReleaseTensorTypeAndShapeInfo(info);
  return status ? status : api->GetTensorMutableData((OrtValue *)value, (void **)data);
}

/* Data of input `index`, which must hold `count` of them. */
static OrtStatus *floats(const OrtApi *api, const OrtKernelContext *context, size_t index, size_t count,
                         const float **data) {
  size_t found = 0;
  TRY(sized(api, context, index, &found, data));
  if (found != count) REFUSE("an input has another size than what it belongs to");
  return NULL;
}

/* The same of a constant of one value per channel: its memory, and so its size, is the same in every call. */
static OrtStatus *constants(Kernel *k, const OrtKernelContext *context, size_t index, const float **data) {
  const OrtValue *value = NULL;
  TRY(k->api->KernelContext_GetInput(context, index, &value));
  const float *known = atomic_load_explicit(&k->checked[index], memory_order_relaxed);
  if (value && known) {
    TRY(k->api->GetTensorMutableData((OrtValue *)value, (void **)data));
    if (*data == known) return NULL;
  }
  TRY(floats(k->api, context, index, (size_t)k->channels, data));
  atomic_store_explicit(&k->checked[index], *data, memory_order_relaxed);
  return NULL;
}

/* How many elements whose channels are known one span takes: a number that vectors of 64 leave nothing of, if it can be;
 * what is left over goes one by one. */
static size_t row_of(size_t channels) {
  size_t even = channels;
  while (even % 64) even += channels;
  if (even <= ROW) return ROW / even * even;
  return channels < ROW ? ROW / channels * channels : channels;
}

/* Scale, factor and offset of every channel, repeated over a row of `width`. */
static void per_channel(const Kernel *k, const float *parameters, const float *mean, const float *variance,
                        const float *gamma, const float *beta, float *made, size_t width) {
  const size_t channels = (size_t)k->channels;
  float *scale = made, *factor = made + width, *offset = made + 2 * width;
  memcpy(scale, parameters + k->scale_at, channels * sizeof(float));
  if (gamma) {
    const float epsilon = k->epsilon;
#pragma omp simd
    for (size_t c = 0; c < channels; c++) {
      factor[c] = gamma[c] * (1.0f / sqrtf(variance[c] + epsilon));
      offset[c] = beta[c] - mean[c] * factor[c];
    }
  } else {
    for (size_t c = 0; c < channels; c++) {
      factor[c] = 1.0f;
      offset[c] = beta ? beta[c] : 0.0f;
    }
  }
  for (size_t at = channels; at < width; at++) {
    scale[at] = scale[at - channels];
    factor[at] = factor[at - channels];
    offset[at] = offset[at - channels];
  }
}

static OrtStatus *in_parts(const OrtApi *api, const OrtKernelContext *context, void (*part)(void *, size_t), size_t parts,
                           Job *job) {
  if (parts != 1) return api->KernelContext_ParallelFor(context, part, parts, 0, job);
  part(job, 0);
  return NULL;
}

/* Input 0 and its shape, of at most MAX_RANK axes. */
static OrtStatus *shaped(const OrtApi *api, const OrtKernelContext *context, Job *job, int64_t *dims, size_t *rank,
                         size_t *count) {
  const OrtValue *value = NULL;
  OrtShapeInfo *info = NULL;
  TRY(api->KernelContext_GetInput(context, 0, &value));
  TRY(api->GetTensorTypeAndShape(value, &info));
  OrtStatus *status = api->GetDimensionsCount(info, rank);
  if (!status && *rank <= MAX_RANK) status = api->GetDimensions(info, dims, *rank);
  api->ReleaseTensorTypeAndShapeInfo(info);
  if (status) return status;
  if (*rank > MAX_RANK) REFUSE("a tensor has more than 8 axes");
  *count = 1;
  for (size_t axis = 0; axis < *rank; axis++) *count *= (size_t)dims[axis];
  return api->GetTensorMutableData((OrtValue *)value, (void **)&job->in);
}

static OrtStatus *made(const OrtApi *api, OrtKernelContext *context, size_t index, const int64_t *dims, size_t rank,
                       void **data) {
  OrtValue *output = NULL;
  TRY(api->KernelContext_GetOutput(context, index, dims, rank, &output));
  return api->GetTensorMutableData(output, data);
}

/* How the products lie, and their parameters. */
static OrtStatus *products(const Kernel *k, const OrtKernelContext *context, Job *job, const int64_t *dims, size_t rank,
                           size_t count, const float **parameters) {
  const OrtApi *api = k->api;
  const size_t channels = (size_t)k->channels;
  size_t held = 0;
  if (rank < 2 || dims[k->last ? rank - 1 : 1] != k->channels) REFUSE("a product has another number of columns");
  TRY(sized(api, context, 1, &held, parameters));
  const int64_t room = (int64_t)held - k->channels;
  if (k->scale_at > room || k->mean_at > room || k->variance_at > room) REFUSE("parameters are missing");
  if (!count) return NULL;
  job->inner = k->last ? channels : count / (size_t)dims[0] / channels;
  job->outer = count / job->inner;
  job->width = k->last && !k->noise ? row_of(channels) : channels;
  job->rows_per_part = PART / job->inner > 0 ? PART / job->inner : 1;
  return NULL;
}

/* Gaussian numbers, signs and sigma: three inputs from `first` on. */
static OrtStatus *noise(Kernel *k, const OrtKernelContext *context, size_t first, size_t count, Job *job) {
  TRY(floats(k->api, context, first, count, &job->gaussian));
  TRY(floats(k->api, context, first + 1, job->outer, &job->signs));
  return constants(k, context, first + 2, &job->sigma);
}

static size_t parts_of(const Job *job) { return (job->outer + job->rows_per_part - 1) / job->rows_per_part; }

static OrtStatus *compute_measure(void *data, OrtKernelContext *context) {
  Kernel *k = data;
  const OrtApi *api = k->api;
  Job job = {.kernel = k};
  int64_t dims[MAX_RANK];
  size_t rank = 0, count = 0;
  const size_t channels = (size_t)k->channels;
  const float *parameters = NULL;
  float *mean = NULL, *variance = NULL;
  TRY(shaped(api, context, &job, dims, &rank, &count));
  TRY(products(k, context, &job, dims, rank, count, &parameters));
  if (k->noise && count) TRY(noise(k, context, 2, count, &job));
  TRY(made(api, context, 0, &k->channels, 1, (void **)&mean));
  TRY(made(api, context, 1, &k->channels, 1, (void **)&variance));
  if (k->codes) TRY(made(api, context, 2, dims, rank, &job.codes));
  job.sums = calloc(2 * channels, sizeof *job.sums);
  if (!job.sums) return api->CreateStatus(ORT_FAIL, "pcmedge: out of memory");
  OrtStatus *status = NULL;
  if (count) status = in_parts(api, context, k->last ? tally_rows : tally_planes, parts_of(&job), &job);
  for (size_t c = 0; c < channels && !status; c++) {
    const float scale = parameters[(size_t)k->scale_at + c];
    moments(job.sums[c], job.sums[channels + c], (int64_t)(count / channels), scale, mean + c, variance + c);
  }
  free((void *)job.sums);
  return status;
}

static OrtStatus *compute_convert(void *data, OrtKernelContext *context) {
  Kernel *k = data;
  Job job = {.kernel = k};
  int64_t dims[MAX_RANK];
  size_t rank = 0;
  TRY(shaped(k->api, context, &job, dims, &rank, &job.outer));
  TRY(made(k->api, context, 0, dims, rank, &job.codes));
  return job.outer ? in_parts(k->api, context, converted, (job.outer + PART - 1) / PART, &job) : NULL;
}

static OrtStatus *compute_read_out(void *data, OrtKernelContext *context) {
  Kernel *k = data;
  const OrtApi *api = k->api;
  Job job = {.kernel = k};
  int64_t dims[MAX_RANK];
  size_t rank = 0, count = 0;
  const size_t channels = (size_t)k->channels;
  const float *parameters = NULL, *mean = NULL, *variance = NULL, *gamma = NULL, *beta = NULL;
  TRY(shaped(api, context, &job, dims, &rank, &count));
  if (k->values) TRY(made(api, context, 0, dims, rank, (void **)&job.values));
  if (k->codes) TRY(made(api, context, 1, dims, rank, &job.codes));
  TRY(products(k, context, &job, dims, rank, count, &parameters));
  if (!count) return NULL;
  const int normed = k->measured || k->mean_at >= 0;
  if (normed) TRY(constants(k, context, 2, &gamma));
  if (normed || k->offset) TRY(constants(k, context, 3, &beta));
  if (k->residual) TRY(floats(api, context, 4, count, &job.residual));
  if (k->noise) TRY(noise(k, context, 5, count, &job));
  if (k->measured) {
    TRY(floats(api, context, 8, channels, &mean));
    TRY(floats(api, context, 9, channels, &variance));
  } else if (normed) {
    mean = parameters + k->mean_at;
    variance = parameters + k->variance_at;
  }
  float *by_channel = malloc(3 * job.width * sizeof(float));
  if (!by_channel) return api->CreateStatus(ORT_FAIL, "pcmedge: out of memory");
  per_channel(k, parameters, mean, variance, gamma, beta, by_channel, job.width);
  job.scale = by_channel;
  job.factor = by_channel + job.width;
  job.offset = by_channel + 2 * job.width;
  OrtStatus *status = in_parts(api, context, k->last ? rows : planes, parts_of(&job), &job);
  free(by_channel);
  return status;
}

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **made) {
  Kernel k = {.api = api, .op = (const Operator *)op, .mean_at = -1, .variance_at = -1, .codes = 1};
  const Does does = k.op->does;
  const struct {
    const char *name;
    int64_t *to;
    int from, until;
  } whole[] = {{"channels", &k.channels, READS_OUT, MEASURES},   {"last", &k.last, READS_OUT, MEASURES},
               {"scale_at", &k.scale_at, READS_OUT, MEASURES},   {"noise", &k.noise, READS_OUT, MEASURES},
               {"codes", &k.codes, READS_OUT, MEASURES},         {"mean_at", &k.mean_at, READS_OUT, READS_OUT},
               {"variance_at", &k.variance_at, READS_OUT, READS_OUT}, {"measured", &k.measured, READS_OUT, READS_OUT},
               {"offset", &k.offset, READS_OUT, READS_OUT},      {"residual", &k.residual, READS_OUT, READS_OUT},
               {"values", &k.values, READS_OUT, READS_OUT}};
  const struct {
    const char *name;
    float *to;
    int from, until;
  } real[] = {{"step", &k.step, CONVERTS, READS_OUT},          {"low", &k.low, CONVERTS, READS_OUT},
              {"high", &k.high, CONVERTS, READS_OUT},          {"epsilon", &k.epsilon, READS_OUT, READS_OUT},
              {"lower", &k.lower, READS_OUT, READS_OUT},       {"upper", &k.upper, READS_OUT, READS_OUT},
              {"adc_low", &k.adc_low, READS_OUT, MEASURES},    {"adc_high", &k.adc_high, READS_OUT, MEASURES},
              {"zero", &k.zero, READS_OUT, MEASURES}};
  for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
    if (whole[i].from <= (int)does && (int)does <= whole[i].until)
      TRY(api->KernelInfoGetAttribute_int64(info, whole[i].name, whole[i].to));
  for (size_t i = 0; i < sizeof real / sizeof *real; i++)
    if (real[i].from <= (int)does && (int)does <= real[i].until)
      TRY(api->KernelInfoGetAttribute_float(info, real[i].name, real[i].to));
  if (does != CONVERTS &&
      (k.channels < 1 || k.scale_at < 0 || (k.noise && k.op->in != ELEMENT_FLOAT) ||
       (k.op->in == ELEMENT_UINT8 && !(k.adc_low >= 0 && k.adc_high <= 255)) ||
       (k.op->in == ELEMENT_INT8 && !(k.adc_low >= -128 && k.adc_high <= 127))))
    REFUSE("attributes contradict each other");
  if (does == READS_OUT && (k.mean_at < -1 || (k.mean_at >= 0 && k.variance_at < 0) || !(k.values || k.codes)))
    REFUSE("attributes contradict each other");
  /* Codes of 8 bits: those of float products become int8 and are handed on, others are there already. */
  if (does == MEASURES &&
      (!(k.adc_low <= k.zero && k.zero <= k.adc_high) || k.codes != (k.op->in == ELEMENT_FLOAT) || (k.noise && k.last) ||
       (k.op->in == ELEMENT_FLOAT && (k.last || !(k.zero == 0 && k.adc_low >= -128 && k.adc_high <= 127)))))
    REFUSE("attributes contradict each other");
  Kernel *kept = malloc(sizeof k);
  if (!kept) return api->CreateStatus(ORT_FAIL, "pcmedge: out of memory");
  memcpy(kept, &k, sizeof k);
  *made = kept;
  return NULL;
}

static const char *name_of(const OrtCustomOp *op) { return ((const Operator *)op)->name; }
static const char *provider_of(const OrtCustomOp *op) {
  (void)op;
  return NULL;
}
static int input_type(const OrtCustomOp *op, size_t index) { return index ? ELEMENT_FLOAT : ((const Operator *)op)->in; }
static Does does(const OrtCustomOp *op) { return ((const Operator *)op)->does; }
static size_t input_count(const OrtCustomOp *op) { return does(op) == CONVERTS ? 1 : does(op) == MEASURES ? 5 : 10; }
static int output_type(const OrtCustomOp *op, size_t index) {
  const size_t codes = does(op) == CONVERTS ? 0 : does(op) == MEASURES ? 2 : 1;
  return index < codes ? ELEMENT_FLOAT : ((const Operator *)op)->out;
}
static size_t output_count(const OrtCustomOp *op) { return does(op) == CONVERTS ? 1 : does(op) == MEASURES ? 3 : 2; }
static int input_kind(const OrtCustomOp *op, size_t index) {
  (void)op;
  return index ? IS_OPTIONAL : IS_REQUIRED;
}
static int output_kind(const OrtCustomOp *op, size_t index) {
  (void)index;
  return does(op) == CONVERTS ? IS_REQUIRED : IS_OPTIONAL;
}
static int memory_type(const OrtCustomOp *op, size_t index) {
  (void)op, (void)index;
  return 0;
}
static int one(const OrtCustomOp *op) {
  (void)op;
  return 1;
}
static int any_version(const OrtCustomOp *op) {
  (void)op;
  return INT32_MAX;
}
static void compute_or_not(void *kernel, OrtKernelContext *context) { (void)kernel, (void)context; }
static void *create_or_not(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info) {
  (void)op, (void)api, (void)info;
  return NULL;
}

#define BASE(compute)                                                                                               \
  {PCM_API_VERSION, create_or_not, name_of,   provider_of, input_type, input_count, output_type, output_count,      \
   compute_or_not,  free,          input_kind, output_kind, memory_type, one,       one,         one,               \
   one,             create,        compute,   NULL,        one,        any_version, NULL,        NULL,              \
   NULL,            NULL}

static const Operator operators[] = {
    {BASE(compute_read_out), "ReadOut_float_float", ELEMENT_FLOAT, ELEMENT_FLOAT, READS_OUT},
    {BASE(compute_read_out), "ReadOut_uint8_uint8", ELEMENT_UINT8, ELEMENT_UINT8, READS_OUT},
    {BASE(compute_read_out), "ReadOut_uint8_int8", ELEMENT_UINT8, ELEMENT_INT8, READS_OUT},
    {BASE(compute_read_out), "ReadOut_int8_uint8", ELEMENT_INT8, ELEMENT_UINT8, READS_OUT},
    {BASE(compute_read_out), "ReadOut_int8_int8", ELEMENT_INT8, ELEMENT_INT8, READS_OUT},
    {BASE(compute_read_out), "ReadOut_int8_float", ELEMENT_INT8, ELEMENT_FLOAT, READS_OUT},
    {BASE(compute_measure), "Measure_float", ELEMENT_FLOAT, ELEMENT_INT8, MEASURES},
    {BASE(compute_measure), "Measure_uint8", ELEMENT_UINT8, ELEMENT_INT8, MEASURES},
    {BASE(compute_measure), "Measure_int8", ELEMENT_INT8, ELEMENT_INT8, MEASURES},
    {BASE(compute_convert), "Convert_float", ELEMENT_FLOAT, ELEMENT_FLOAT, CONVERTS},
    {BASE(compute_convert), "Convert_uint8", ELEMENT_FLOAT, ELEMENT_UINT8, CONVERTS},
    {BASE(compute_convert), "Convert_int8", ELEMENT_FLOAT, ELEMENT_INT8, CONVERTS},
};

/* Called by ONNX Runtime for every session that registers this library. One domain serves them all, for good: a session
 * may outlive the options it was opened with. */
EXPORT OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
  static _Atomic(OrtCustomOpDomain *) shared;
  const OrtApi *api = base->GetApi(PCM_API_VERSION);
  if (!api) return base->GetApi(1)->CreateStatus(ORT_FAIL, "pcmedge: this ONNX Runtime is too old");
  OrtCustomOpDomain *domain = shared, *nobody = NULL;
  if (!domain) {
    TRY(api->CreateCustomOpDomain("pcmedge.native", &domain));
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
      TRY(api->CustomOpDomain_Add(domain, &operators[i].base));
    if (!atomic_compare_exchange_strong(&shared, &nobody, domain)) domain = nobody;
  }
  return api->AddCustomOpDomain(options, domain);
}
