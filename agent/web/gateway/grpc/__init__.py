"""The Open Inference Protocol v2 over gRPC, with its model-repository extension."""
