"""Training of the fusion network and its export to ONNX: the only package that imports torch."""
