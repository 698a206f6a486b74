/* The part of ONNX Runtime's C interface that read_out.c uses, declared anew.
 *
 * The interface is a table of functions that only ever grows at its end: an entry keeps its place for good. The places
 * below are those of onnxruntime_c_api.h, version 17 (ONNX Runtime 1.17) and later; the assertions say so again.
 * OrtCustomOp may be longer than here in a newer ONNX Runtime, which reads no further than `version` allows.
 */
#ifndef PCMEDGE_ORT_H
#define PCMEDGE_ORT_H

#include <stddef.h>
#include <stdint.h>

#define PCM_API_VERSION 17

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtShapeInfo OrtShapeInfo;
typedef struct OrtCustomOp OrtCustomOp;

enum { ORT_INVALID_ARGUMENT = 2, ORT_FAIL = 1 };
enum { ELEMENT_FLOAT = 1, ELEMENT_UINT8 = 2, ELEMENT_INT8 = 3 };
enum { IS_REQUIRED = 0, IS_OPTIONAL = 1 };

typedef void (*Unused)(void);

typedef struct OrtApi {
  OrtStatus *(*CreateStatus)(int code, const char *message);
  Unused unused1[25];
  OrtStatus *(*CreateCustomOpDomain)(const char *name, OrtCustomOpDomain **made);
  OrtStatus *(*CustomOpDomain_Add)(OrtCustomOpDomain *domain, const OrtCustomOp *op);
  OrtStatus *(*AddCustomOpDomain)(OrtSessionOptions *options, OrtCustomOpDomain *domain);
  Unused unused29[22];
  OrtStatus *(*GetTensorMutableData)(OrtValue *value, void **data);
  Unused unused52[9];
  OrtStatus *(*GetDimensionsCount)(const OrtShapeInfo *info, size_t *rank);
  OrtStatus *(*GetDimensions)(const OrtShapeInfo *info, int64_t *dims, size_t rank);
  Unused unused63[1];
  OrtStatus *(*GetTensorShapeElementCount)(const OrtShapeInfo *info, size_t *count);
  OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *value, OrtShapeInfo **info);
  Unused unused66[19];
  OrtStatus *(*KernelInfoGetAttribute_float)(const OrtKernelInfo *info, const char *name, float *value);
  OrtStatus *(*KernelInfoGetAttribute_int64)(const OrtKernelInfo *info, const char *name, int64_t *value);
  Unused unused87[3];
  OrtStatus *(*KernelContext_GetInput)(const OrtKernelContext *context, size_t index, const OrtValue **value);
  OrtStatus *(*KernelContext_GetOutput)(OrtKernelContext *context, size_t index, const int64_t *dims, size_t rank,
                                        OrtValue **value);
  Unused unused92[7];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtShapeInfo *info);
  Unused unused100[174];
  OrtStatus *(*KernelContext_ParallelFor)(const OrtKernelContext *context, void (*part)(void *, size_t), size_t parts,
                                          size_t batches, void *data);
} OrtApi;

#define AT(function, place) \
  _Static_assert(offsetof(OrtApi, function) == (place) * sizeof(void *), #function " is not where ONNX Runtime has it")
AT(CreateCustomOpDomain, 26);
AT(GetTensorMutableData, 51);
AT(GetDimensionsCount, 61);
AT(GetTensorShapeElementCount, 64);
AT(KernelInfoGetAttribute_float, 85);
AT(KernelContext_GetInput, 90);
AT(ReleaseTensorTypeAndShapeInfo, 99);
AT(KernelContext_ParallelFor, 274);

typedef struct OrtApiBase {
  const OrtApi *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info);
  const char *(*GetName)(const OrtCustomOp *op);
  const char *(*GetExecutionProviderType)(const OrtCustomOp *op);
  int (*GetInputType)(const OrtCustomOp *op, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp *op);
  int (*GetOutputType)(const OrtCustomOp *op, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp *op);
  void (*KernelCompute)(void *kernel, OrtKernelContext *context);
  void (*KernelDestroy)(void *kernel);
  int (*GetInputCharacteristic)(const OrtCustomOp *op, size_t index);
  int (*GetOutputCharacteristic)(const OrtCustomOp *op, size_t index);
  int (*GetInputMemoryType)(const OrtCustomOp *op, size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp *op);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp *op);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp *op);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *op);
  OrtStatus *(*CreateKernelV2)(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **kernel);
  OrtStatus *(*KernelComputeV2)(void *kernel, OrtKernelContext *context);
  Unused InferOutputShapeFn;
  int (*GetStartVersion)(const OrtCustomOp *op);
  int (*GetEndVersion)(const OrtCustomOp *op);
  size_t (*GetMayInplace)(int **inputs, int **outputs);
  void (*ReleaseMayInplace)(int *inputs, int *outputs);
  size_t (*GetAliasMap)(int **inputs, int **outputs);
  void (*ReleaseAliasMap)(int *inputs, int *outputs);
};

#endif
