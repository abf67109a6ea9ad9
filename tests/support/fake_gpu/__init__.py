"""A GPU of plain host memory: libcuda and TensorRT with their real signatures, over ONNX Runtime on the CPU."""
