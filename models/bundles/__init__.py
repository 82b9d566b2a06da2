"""Encoder bundles: one file with a network, its preprocessing, and possibly a text tower.

A bundle is data, never code: OpenVINO IR or ONNX, ``tokenizer.json``, and a manifest.
"""
