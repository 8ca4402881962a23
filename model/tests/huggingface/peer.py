"""Small models made by Hugging Face's transformers, and what they compute: the peer that tests compare with.

    python3 peer.py make DIR        models with random weights, their logits and gradients
    python3 peer.py fixtures DIR    the two that the repository holds (model/tests/fixtures)
    python3 peer.py check < JSON    loads exported models and compares their logits with ours

Every model NAME becomes

    DIR/NAME/                       what save_pretrained writes
    DIR/NAME.expected.safetensors   tokens [batch, context + 1]; logits [batch, context, vocab] after the first
                                    `context` of them, and logits_1 [batch, 1, vocab] after the first alone
    DIR/NAME.gradients/             as a model whose weights are gradients: those of the mean cross-entropy of
                                    each next token
"""

import json
import os
import sys

os.environ.setdefault("TQDM_DISABLE", "1")

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.use_deterministic_algorithms(True)

SIZE = dict(vocab_size=97, tie_word_embeddings=False, bos_token_id=None, eos_token_id=0)
GPT2 = dict(
    SIZE, n_positions=24, n_embd=32, n_layer=2, n_head=4, tie_word_embeddings=True,
    embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
)
LLAMA = dict(
    SIZE, max_position_embeddings=24, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
    rope_parameters=dict(rope_type="default", rope_theta=1000.0),
)
# A turn takes the four pairs of a head 6, 20, 63 and 199 tokens: below 16 / 2 is fast, above 16 / 0.5 slow.
LLAMA_3 = dict(
    rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=0.5, high_freq_factor=2.0,
    original_max_position_embeddings=16,
)

# name: (configuration, how it is saved)
MODELS = {
    "gpt2": (transformers.GPT2Config(**GPT2), {}),
    "gpt2-untied": (
        transformers.GPT2Config(
            **GPT2 | dict(tie_word_embeddings=False, activation_function="gelu", n_inner=72,
                          layer_norm_epsilon=1e-3)),
        {},
    ),
    "gpt2-f16": (transformers.GPT2Config(**GPT2), dict(dtype=torch.float16)),
    "gpt2-bf16-sharded": (
        transformers.GPT2Config(**GPT2), dict(dtype=torch.bfloat16, max_shard_size="20KB")),
    # As the files of 2019 are: without the prefix, with the masks, with the head beside the embedding.
    "gpt2-old-names": (transformers.GPT2Config(**GPT2), dict(old_names=True)),
    "llama-gqa": (transformers.LlamaConfig(**LLAMA), {}),
    "llama-tied-biased-mqa": (
        transformers.LlamaConfig(
            **LLAMA | dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                           num_key_value_heads=1, head_dim=12)),
        {},
    ),
    "llama-3-rope": (transformers.LlamaConfig(**LLAMA | dict(rope_parameters=LLAMA_3)), {}),
    "llama-3-rope-old-keys": (
        transformers.LlamaConfig(**LLAMA | dict(rope_parameters=LLAMA_3)), dict(old_keys=True)),
    "llama-bf16-sharded": (
        transformers.LlamaConfig(**LLAMA), dict(dtype=torch.bfloat16, max_shard_size="20KB")),
    "mistral-window": (transformers.MistralConfig(**LLAMA | dict(sliding_window=5)), {}),
    "qwen3": (transformers.Qwen3Config(**LLAMA | dict(head_dim=12)), {}),
}

# Small enough for a repository; 256 bytes and an end of text, so that they read and write text.
TEXT = dict(vocab_size=257, bos_token_id=256, eos_token_id=256)
FIXTURES = {
    "gpt2": (transformers.GPT2Config(**GPT2 | TEXT | dict(n_embd=16)), dict(tokenizer=True)),
    "llama": (
        transformers.LlamaConfig(**LLAMA | TEXT | dict(hidden_size=16, intermediate_size=24)),
        dict(tokenizer=True),
    ),
}


def randomise(model):
    """As initialised, gains are 1, biases 0 and the rest small: most mistakes would not show."""
    for name, parameter in model.named_parameters():
        random = torch.randn_like(parameter)
        if parameter.dim() == 2:
            embedding = "wte" in name or "wpe" in name or "embed_tokens" in name
            parameter.data = random * (0.5 if embedding else parameter.shape[-1] ** -0.5 * 1.3)
        else:
            parameter.data = random * 0.3 + (0.0 if name.endswith("bias") else 1.0)


def old_names(folder):
    path = f"{folder}/model.safetensors"
    tensors = {name.removeprefix("transformer."): value for name, value in load_file(path).items()}
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 24, 24, dtype=torch.uint8).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, path, metadata={"format": "pt"})


def old_keys(folder):
    """As transformers wrote them before version 5."""
    path = f"{folder}/config.json"
    config = json.load(open(path))
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    json.dump(config, open(path, "w"), indent=2)


def tokenizer(folder):
    """One id per byte, and one for the end of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({byte: id for id, byte in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    made.save(f"{folder}/tokenizer.json")


def make(out, models):
    for seed, (name, (config, how)) in enumerate(models.items()):
        transformers.set_seed(seed)
        folder = f"{out}/{name}"
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        randomise(model)
        dtype = how.get("dtype", torch.float32)
        model.to(dtype).save_pretrained(folder, max_shard_size=how.get("max_shard_size", "1GB"))
        for change in (old_names, old_keys, tokenizer):
            if how.get(change.__name__):
                change(folder)

        # From the file, so that what is compared with has been rounded as the file is.
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        context = config.max_position_embeddings
        tokens = torch.randint(config.vocab_size, (2, context + 1))
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        logits = model(inputs).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        logits_1 = model(inputs[:, :1]).logits
        expected = dict(tokens=tokens, logits=logits.detach(), logits_1=logits_1.detach())
        save_file(expected, f"{out}/{name}.expected.safetensors")

        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        os.makedirs(f"{out}/{name}.gradients")
        save_file(gradients, f"{out}/{name}.gradients/model.safetensors", metadata={"format": "pt"})
        model.config.to_json_file(f"{out}/{name}.gradients/config.json", use_diff=False)


def check():
    """Of each {"model": folder, "ours": file with tokens and logits}, the largest difference of a logit."""
    answers = []
    for case in json.load(sys.stdin):
        model, loading = AutoModelForCausalLM.from_pretrained(
            case["model"], dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        assert not any(loading.values()), (case, loading)
        ours = load_file(case["ours"])
        with torch.no_grad():
            logits = model.eval()(ours["tokens"]).logits
        answer = dict(architecture=type(model).__name__,
                      difference=(logits - ours["logits"]).abs().max().item())
        if os.path.exists(f"{case['model']}/tokenizer.json"):
            text = "A sign – of what comes next.\n"
            tokenizer = AutoTokenizer.from_pretrained(case["model"])
            answer["ids"] = tokenizer(text).input_ids
            answer["text"] = tokenizer.decode(answer["ids"])
        answers.append(answer)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    command = sys.argv[1]
    if command == "check":
        check()
    else:
        make(sys.argv[2], MODELS if command == "make" else FIXTURES)
        print(transformers.__version__)
