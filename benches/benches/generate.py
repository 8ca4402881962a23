"""Competitor of foretoken in the bench `generate`: GPT-2 in transformers of Hugging Face, on the CPU, in f32.

    python3 generate.py make DIR                writes GPT-2 (124M) with random weights
    python3 generate.py peak                    measures the matrix product of PyTorch; prints JSON
    python3 generate.py run DIR BATCH PROMPT TOKENS READINGS
                                                continues ids 0..PROMPT, BATCH times over, by TOKENS each, greedily and
                                                with the cache, and reads the prompt READINGS times; prints JSON
"""

import json
import os
import resource
import statistics
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache, GPT2Config, LogitsProcessorList

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(len(os.sched_getaffinity(0)))


def make(directory):
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(GPT2Config()).save_pretrained(directory)


def peak():
    size = 1536
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    print(json.dumps(dict(operations_per_second=2 * size**3 / best)))


def library(model, prompt, tokens):
    """Generates as users do; returns the time of the first logits."""
    first = []

    def note(ids, logits):
        if not first:
            first.append(time.perf_counter())
        return logits

    model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
        min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0,
        logits_processor=LogitsProcessorList([note]))
    return first[0]


def loop(model, prompt, tokens):
    """Generates with the model alone, without the overhead of generate(); returns the time of the first token."""
    cache, ids, first = DynamicCache(config=model.config), prompt, None
    for _ in range(tokens):
        logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        ids = logits[:, -1].argmax(-1, keepdim=True)
        first = first or time.perf_counter()
    return first


def run(directory, batch, prompt, tokens, readings):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    prompt = torch.arange(prompt).unsqueeze(0).repeat(batch, 1)
    report = {}
    with torch.inference_mode():
        for method in (library, loop):
            method(model, prompt, 2)
            reading = []
            for _ in range(readings):
                started = time.perf_counter()
                reading.append(method(model, prompt, 1) - started)
            first = method(model, prompt, tokens)
            step = (time.perf_counter() - first) / (tokens - 1)
            report[method.__name__] = dict(reading=statistics.median(reading), step=step)
    report["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(report))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", directory]:
            make(directory)
        case ["peak"]:
            peak()
        case ["run", directory, *numbers]:
            run(directory, *map(int, numbers))
        case _:
            sys.exit(__doc__)
