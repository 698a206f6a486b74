"""TFLite's Interpreter on a PCM device: change the import, keep the code.

::

    from pcmedge.tflite import Interpreter  # instead of ai_edge_litert.interpreter or tflite_runtime.interpreter

See docs/tflite.md for what each argument means here.
"""

from pcmedge.tflite.interpreter import Interpreter, OpResolverType, load_delegate
from pcmedge.tflite.signatures import SignatureRunner

__all__ = ["Interpreter", "OpResolverType", "SignatureRunner", "load_delegate"]
