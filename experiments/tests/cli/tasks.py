"""Log-likelihoods of small models of Hugging Face's transformers on small files of every task, computed plainly: the peer
of `foretoken evaluate --tasks`.

    python3 tasks.py DIR SHOTS

Makes models with random weights in DIR/gpt2 and DIR/llama and the files of all tasks in DIR/data. Prints, for each model and
task, [log-likelihood, greedy] of every choice of every item as JSON, under "plain" as computed here, and under "harness" as
lm-evaluation-harness computes them, where it is installed (otherwise null).
"""

import importlib.util
import json
import os
import random
import re
import sys

import tokenizers
import torch
import transformers

torch.use_deterministic_algorithms(True)
torch.manual_seed(3)

directory, shots = sys.argv[1], int(sys.argv[2])
data = os.path.join(directory, "data")
os.makedirs(data, exist_ok=True)
CONTEXT = 96
WORDS = "the a cat rain music lamp she he naïve 猫 sees likes under river green is are walks slowly Ann Eve".split()


def sentence(draw, low=3, high=9):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(low, high)))


def records(task, draw, count):
    for number in range(count):
        text = lambda low=3, high=9: sentence(draw, low, high)
        if task == "hellaswag":
            yield dict(activity_label=f"[header] {text(1, 2)}", ctx_a=f"{text()} [title] {text()}.", ctx_b=text(2, 4),
                       endings=[f" {text()} [step] {text(1, 3)}. " for _ in range(4)], label=str(draw.randrange(4)))
        elif task.startswith("arc"):
            count_of_choices = draw.randint(3, 5)
            labels = list("ABCDE" if number % 2 else "12345")[:count_of_choices]
            yield dict(id=f"q{number}", question=text() + "?", answerKey=draw.choice(labels),
                       choices=dict(text=[text(1, 4) for _ in labels], label=labels))
        elif task == "piqa":
            yield dict(goal=text(2, 40) + (" " if number % 3 == 0 else ""), sol1=text(), sol2=text(), label=draw.randrange(2))
        elif task == "winogrande":
            yield dict(sentence=f"{text()} because _ {text()}. ", option1="Ann", option2="Eve", answer=draw.choice("12"))
        elif task == "lambada":
            yield dict(text=text(10, 60) + ("  " if number % 4 == 0 else " ") + draw.choice(WORDS))
        else:
            yield dict(sentence_good=text(), sentence_bad=text(), UID=f"part {number % 3}", pair_id=number)


TASKS = ["hellaswag", "arc_easy", "arc_challenge", "piqa", "winogrande", "lambada", "blimp"]
files, rows = {}, {}
for task in TASKS:
    for part, count in [("", 12), (".train", 9)]:
        name = f"{task}{part}"
        rows[name] = list(records(task, random.Random(name), count))
        files[name] = os.path.join(data, f"{name}.jsonl")
        with open(files[name], "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in rows[name])


# Contexts, continuations and the right choice of a record, written from the definitions of the tasks.
def clean(text):
    return re.sub(r"\[[^\]\n]*\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def question(task, record):
    if task == "hellaswag":
        context = clean(f"{record['activity_label']}: {record['ctx_a']} {record['ctx_b'].capitalize()}")
        return [(context, " " + clean(ending)) for ending in record["endings"]], int(record["label"])
    if task.startswith("arc"):
        choices = record["choices"]
        context = f"Question: {record['question']}\nAnswer:"
        return [(context, " " + text) for text in choices["text"]], choices["label"].index(record["answerKey"])
    if task == "piqa":
        context = f"Question: {record['goal']}\nAnswer:"
        return [(context, " " + record[name]) for name in ("sol1", "sol2")], record["label"]
    if task == "winogrande":
        before, after = record["sentence"].split("_", 1)
        return [(before + record[name], " " + after.strip()) for name in ("option1", "option2")], int(record["answer"]) - 1
    if task == "lambada":
        words = record["text"].split(" ")
        return [(" ".join(words[:-1]), " " + words[-1])], 0
    return [("", " " + record["sentence_good"]), ("", " " + record["sentence_bad"])], 0


def example(task, record):
    choices, gold = question(task, record)
    context, continuation = choices[gold]
    return context + (" " if task == "lambada" else "") + continuation + "\n\n"


def examples(task, record, draw):
    if shots == 0 or task == "blimp":
        return ""
    pool = rows["lambada" if task == "lambada" else f"{task}.train"]
    spare = task in ("hellaswag", "piqa", "winogrande")
    drawn = [other for other in draw.sample(pool, shots + spare) if not spare or other != record]
    return "".join(example(task, other) for other in drawn[:shots])


def scored(model, encode, prefix, context, continuation):
    """Encodes a pair, and returns the sum of ln p of the continuation and whether it is greedy."""
    kept = context.rstrip()
    continuation = context[len(kept):] + continuation
    if kept:
        before = encode(kept)
        after = encode(kept + continuation)[len(before):]
    else:
        before, after = [prefix], encode(continuation)
        after = after[1:] if after[:1] == [prefix] else after
    ids = (before + after)[-(CONTEXT + 1):]
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0, -len(after):].double()
    total = sum(logits.log_softmax(-1)[place, token].item() for place, token in enumerate(after))
    return [total, logits.argmax(-1).tolist() == after]


def make_tokenizer(start):
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    texts = [json.dumps(record, ensure_ascii=False) for some in rows.values() for record in some]
    tokenizer.train_from_iterator(texts, vocab_size=400, show_progress=False, special_tokens=["<|endoftext|>"])
    tokenizer = tokenizer._tokenizer
    if start:
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    return tokenizer


SIZE = dict(vocab_size=400, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0)
MODELS = {
    "gpt2": transformers.GPT2Config(
        **SIZE, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0),
    "llama": transformers.LlamaConfig(
        **SIZE, max_position_embeddings=CONTEXT, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2),
}


def harness(model, tokenizer):
    """Returns the same results from lm-evaluation-harness, on its own definitions of the tasks and our files."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    root = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
    paths = dict(hellaswag="hellaswag/hellaswag", arc_easy="arc/arc_easy", arc_challenge="arc/arc_challenge", piqa="piqa/piqa",
                 winogrande="winogrande/default", lambada="lambada/lambada_openai", blimp="blimp/adjunct_island")
    split = dict(arc_easy="test", arc_challenge="test", lambada="test", blimp="train")
    folder = os.path.join(directory, "tasks")
    os.makedirs(folder, exist_ok=True)
    for task, path in paths.items():
        files_of_task = {split.get(task, "validation"): os.path.abspath(files[task])}
        if task not in ("lambada", "blimp"):
            files_of_task["train"] = os.path.abspath(files[f"{task}.train"])
        config = dict(include=os.path.join(root, path + ".yaml"), task=f"local_{task}", dataset_path="json", dataset_name=None,
                      dataset_kwargs=dict(data_files=files_of_task), tag=None)
        with open(os.path.join(folder, f"{task}.yaml"), "w") as file:
            file.write("\n".join(f"{key}: {json.dumps(value)}" for key, value in config.items()))
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=CONTEXT)
    found = lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=wrapped, batch_size=3, max_length=CONTEXT),
        tasks=[f"local_{task}" for task in TASKS], num_fewshot=shots, bootstrap_iters=0, log_samples=True,
        task_manager=lm_eval.tasks.TaskManager(include_path=folder))
    results = {}
    for task in TASKS:
        samples = sorted(found["samples"][f"local_{task}"], key=lambda sample: sample["doc_id"])
        results[task] = dict(
            items=[[list(one) for one in sample["filtered_resps"]] for sample in samples],
            measures={name.split(",")[0]: value for name, value in found["results"][f"local_{task}"].items()
                      if name.endswith(",none") and isinstance(value, float)})
    return results


printed = {}
for name, config in MODELS.items():
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    # As initialised, all tokens are about equally probable.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
    tokenizer = make_tokenizer(start=name == "llama")
    folder = os.path.join(directory, name)
    model.save_pretrained(folder)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))

    plain = {}
    for task in TASKS:
        draw = random.Random(1234)
        plain[task] = []
        for record in rows[task]:
            before = examples(task, record, draw)
            choices, _ = question(task, record)
            # A text that follows no context begins with the token that the tokenizer puts before every text, or with the
            # one that ends a text: token 0 in both cases.
            encode = lambda text: tokenizer.encode(text).ids
            alone = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
            plain[task].append([
                scored(model, encode if (before + context).strip() else alone, 0, before + context, continuation)
                for context, continuation in choices])
    installed = importlib.util.find_spec("lm_eval") is not None
    printed[name] = dict(plain=plain, harness=harness(model, tokenizer) if installed else None)
print(json.dumps(printed))
