"""The emulated device. pcmedge is imported first, which keeps ONNX Runtime from reporting to its maker."""

import pcmedge as _pcmedge  # noqa: F401
