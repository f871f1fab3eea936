"""Benchmark peer: TRL's GRPOTrainer, with the settings that make it fastest on a CPU."""

import os

# Before PyTorch is loaded. Its allocator then asks for huge pages: TRL's loss makes temporaries of hundreds of MB.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
