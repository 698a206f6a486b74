"""The descriptor pool every message of the contract lives in.

The default pool is shared by the whole process: two packages that define ``inference.ModelInferRequest`` there collide
at import. A pool of our own lets any other client of the Open Inference Protocol share the process.
"""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
