"""The stages: settings and artifacts in, one artifact (tensors and metrics) out; one file each."""
