"""llama.cpp on token ids, through the PyPI package llama-cpp-python: what the comparison and the check of the GGUF
export share.

    python3 -m venv build/llama-venv
    build/llama-venv/bin/pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36 gguf==0.19.0

builds it for this machine, in some minutes.
"""

import ctypes
import importlib.util
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
VENV = ROOT / "build" / "llama-venv"


def continue_with_llama_cpp():
    """Goes on under the Python of build/llama-venv where this one lacks llama_cpp; False where neither has it."""
    if importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("gguf"):
        return True
    python = VENV / "bin" / "python"
    if not python.exists() or pathlib.Path(sys.prefix) == VENV:
        return False
    os.execv(python, [python, *sys.argv])


class LlamaCpp:
    """One model and one sequence. `exact`: keys and values in float32 and no flash attention, for comparing numbers;
    otherwise llama.cpp's own defaults."""

    def __init__(self, path, context, threads, exact=False, quiet=True):
        import llama_cpp
        self.api = llama_cpp
        if quiet:
            self.log = llama_cpp.llama_log_callback(lambda level, text, data: None)
            llama_cpp.llama_log_set(self.log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        start = time.perf_counter()
        self.model = llama_cpp.llama_model_load_from_file(os.fsencode(path), llama_cpp.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"{path}: llama.cpp cannot load it")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_threads, params.n_threads_batch = context, threads, threads
        if exact:
            params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
            params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"{path}: llama.cpp makes no context of {context} tokens")
        self.load_seconds = time.perf_counter() - start
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.largest_batch = llama_cpp.llama_n_batch(self.context)
        self.position = 0

    def close(self):
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)

    def clear(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        self.position = 0

    def run(self, ids):
        """Appends the ids; the logits of the last one are there afterwards."""
        for first in range(0, len(ids), self.largest_batch):
            part = ids[first:first + self.largest_batch]
            tokens = (self.api.llama_token * len(part))(*part)
            status = self.api.llama_decode(self.context, self.api.llama_batch_get_one(tokens, len(part)))
            if status != 0:
                raise RuntimeError(f"llama_decode gave {status} at position {self.position}")
            self.position += len(part)

    def logits(self):
        """Of the last token, as a numpy array."""
        import numpy
        row = self.api.llama_get_logits_ith(self.context, -1)
        return numpy.ctypeslib.as_array(row, shape=(self.vocabulary,)).copy()

    def best(self):
        return int(self.logits().argmax())
