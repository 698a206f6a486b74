"""The emulated chip as a device of the contract: handlers without gRPC, and the server that binds them."""
