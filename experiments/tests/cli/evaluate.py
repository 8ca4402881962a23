"""Losses of small models of Hugging Face's transformers on a text, computed plainly: the peer of `foretoken evaluate`.

    python3 evaluate.py DIR TEXT STRIDE

Makes DIR/gpt2 and DIR/llama with random weights and a byte-level BPE tokenizer trained on TEXT. Prints, for each, the sum of
-ln p over all tokens of TEXT but the first, in windows of the context that are moved by STRIDE, as JSON.
"""

import json
import os
import sys

import tokenizers
import torch
import transformers

torch.use_deterministic_algorithms(True)
torch.manual_seed(3)

directory, path, stride = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(path, encoding="utf-8", newline="") as file:
    text = file.read()

tokenizer = tokenizers.ByteLevelBPETokenizer()
tokenizer.train_from_iterator([text], vocab_size=320, show_progress=False)
ids = tokenizer.encode(text).ids
vocabulary = tokenizer.get_vocab_size()

SIZE = dict(vocab_size=vocabulary, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)
MODELS = {
    "gpt2": transformers.GPT2Config(
        **SIZE, n_positions=24, n_embd=32, n_layer=2, n_head=4, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0),
    "llama": transformers.LlamaConfig(
        **SIZE, max_position_embeddings=24, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2),
}
CONTEXT = 24

results = {}
for name, config in MODELS.items():
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    # As initialised, all tokens are about equally probable.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
    folder = os.path.join(directory, name)
    model.save_pretrained(folder)
    tokenizer._tokenizer.save(os.path.join(folder, "tokenizer.json"))
    nats, tokens, scored = 0.0, 0, 1
    for start in range(0, len(ids) - 1, stride):
        end = min(start + CONTEXT, len(ids) - 1)
        if end < scored:
            break
        with torch.no_grad():
            logits = model(torch.tensor([ids[start:end]])).logits[0].double()
        losses = -logits.log_softmax(-1)
        for target in range(scored, end + 1):
            nats += losses[target - 1 - start, ids[target]].item()
            tokens += 1
        scored = end + 1
    first = len(tokenizer.decode([ids[0]]).encode())
    results[name] = dict(nats=nats, tokens=tokens, bytes=len(text.encode()) - first)
print(json.dumps(results))
