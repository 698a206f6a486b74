"""What a model can come from. Each frontend has one verb, ``load``, and gives a float ONNX model of the pinned opset.

* :mod:`pcmedge.frontends.torch` — a ``torch.nn.Module`` (needs the extra ``train``)
* :mod:`pcmedge.frontends.onnx` — an ONNX file or ``ModelProto`` (needs the extra ``emulator``)
* :mod:`pcmedge.frontends.tflite` — a ``.tflite`` file, float or quantised (needs the extra ``emulator``)
"""
