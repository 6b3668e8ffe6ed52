"""The sections of `scripts/benchmarks/gpu.py`: each measures one thing and writes its rows."""
