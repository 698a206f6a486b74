"""What both ends of the device contract share: the table of calls, tensors, errors on the wire, addresses.

Everything here is written by hand on top of the messages generated from proto/; neither end adds rules of its own.
"""
