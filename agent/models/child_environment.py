"""Extra environment variables of every process that loads a model: worker, preparations and doctor's tests."""

from typing import Final

TOP_BYTES: Final = 64 << 20
"""Free memory that glibc keeps at the top of a heap."""
FOR_MODELS: Final = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",  # numpy's sums of masks are short, and its threads would spin beside the runtime's
    "MALLOC_ARENA_MAX": "1",  # malloc_trim gives back the top of the main arena only
    # As high as glibc would move them: a runtime that allocates for each frame finds its pages again (decision 48).
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(TOP_BYTES),
}
FOR_WORKER: Final = FOR_MODELS | {"MALLOC_ARENA_MAX": "64"}
"""For the worker, which has a heap for each thread: its frames would wait for one that a load uses (decision 214)."""
