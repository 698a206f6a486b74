"""The emulated device. Importing pcmedge first keeps ONNX Runtime, whoever imports it here, from reporting to its maker."""

import pcmedge as _pcmedge  # noqa: F401
