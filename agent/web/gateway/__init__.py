"""The gateway: inference requests by the Open Inference Protocol v2, over HTTP and gRPC."""
