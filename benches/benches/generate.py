"""Competitor of foretoken in the bench `generate`: GPT-2 in transformers of Hugging Face, on the CPU, in f32.

    python3 generate.py make DIR                writes GPT-2 (124M) with random weights
    python3 generate.py run DIR PROMPT TOKENS ROUNDS
                                                continues ids 0..PROMPT by TOKENS, greedily, with the cache, ROUNDS
                                                times; prints JSON
"""

import json
import os
import resource
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache, GPT2Config

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def make(directory):
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(GPT2Config()).save_pretrained(directory)


def library(model, prompt, tokens):
    """Generates as users do."""
    model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
        min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0)


def loop(model, prompt, tokens):
    """Generates with the model alone, without the overhead of generate()."""
    cache, ids = DynamicCache(config=model.config), prompt
    for _ in range(tokens):
        logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        ids = logits[:, -1].argmax(-1, keepdim=True)


def run(directory, prompt, tokens, rounds):
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    prompt = torch.arange(prompt).unsqueeze(0)
    seconds = {}
    with torch.inference_mode():
        for method in (library, loop):
            method(model, prompt, 4)
            started = time.perf_counter()
            for _ in range(rounds):
                method(model, prompt, tokens)
            seconds[method.__name__] = (time.perf_counter() - started) / rounds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(dict(seconds=seconds, peak_memory_bytes=peak)))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", directory]:
            make(directory)
        case ["run", directory, *numbers]:
            run(directory, *map(int, numbers))
        case _:
            sys.exit(__doc__)
