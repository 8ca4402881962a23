"""Competitor of foretoken in `race`: trains a GPT-2 in plain PyTorch, on the CPU, in f32.

Notable:
- pre-norm LayerNorm, one product for queries, keys and values, F.scaled_dot_product_attention, GELU by tanh,
  learned positions, biases, a head that is the token embedding;
- AdamW (fused) with decay on matrices only, and one norm over all gradients;
- --compile: forward, loss and backward through torch.compile;
- weights, tokens and the start of every window come from files, so that losses can be compared.

The request "run K" on stdin takes K steps, and "peak" measures the speed of matrix products. Each is answered by one line
of JSON on stdout. The program ends when stdin ends, even in the middle of a step.
"""

import argparse
import json
import os
import queue
import sys
import threading
import time

# Only answers go to stdout. All other output goes to stderr, so this comes before anything can print.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(kind, content):
    print(json.dumps({kind: content}), file=answers, flush=True)


try:
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    answer("error", f"python3 cannot import PyTorch ({error}): run `source .ci/env.sh` first")
    sys.exit(2)


class Block(nn.Module):
    # Parameters are created in the order of the file of weights.
    def __init__(self, heads, width):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):  # (batch, context, width)
        batch, context, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, context, 3, self.heads, width // self.heads)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)  # (batch, heads, context, head width) each
        attention = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.output(attention.transpose(1, 2).reshape(batch, context, width))
        inner = F.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh")
        return x + self.down(inner)


class GPT(nn.Module):
    def __init__(self, vocab_size, context, layers, heads, width):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(heads, width) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)

    def forward(self, inputs, targets):  # (batch, context) each -> nats per token
        x = self.tokens(inputs) + self.positions.weight
        for block in self.blocks:
            x = block(x)
        logits = self.final_norm(x) @ self.tokens.weight.T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def load(self, path):
        """Reads the parameters in order. Weights of linear layers are transposed in the file."""
        linear = {id(module.weight) for module in self.modules() if isinstance(module, nn.Linear)}
        with open(path, "rb") as file:
            for parameter in self.parameters():
                values = torch.from_numpy(np.fromfile(file, "<f4", parameter.numel()))
                if id(parameter) in linear:
                    values = values.view(parameter.T.shape).T
                parameter.copy_(values.view(parameter.shape) if values.dim() == 1 else values)
            if file.read(1):
                raise ValueError(f"{path} has more weights than the model")


class Training:
    def __init__(self, args):
        self.context, self.batch, self.step = args.context, args.batch, 0
        self.text = np.memmap(args.text, "<u2", "r")
        self.windows = np.fromfile(args.windows, "<u8").astype(np.int64)
        model = GPT(args.vocab_size, args.context, args.layers, args.heads, args.width)
        model.load(args.weights)
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                dict(params=[p for p in self.parameters if p.dim() >= 2], weight_decay=0.1),
                dict(params=[p for p in self.parameters if p.dim() < 2], weight_decay=0.0),
            ],
            lr=args.learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True,
        )
        self.loss = torch.compile(model) if args.compile else model

    def next_batch(self):
        rows = self.windows[self.step * self.batch :][: self.batch]
        if len(rows) < self.batch:
            raise ValueError(f"the file has no windows for step {self.step}")
        windows = np.stack([self.text[row : row + self.context + 1] for row in rows])
        windows = torch.from_numpy(windows.astype(np.int64))
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def take_step(self):
        loss = self.loss(*self.next_batch())
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def run(self, steps):
        seconds, losses = [], []
        for _ in range(steps):
            started = time.perf_counter()
            losses.append(self.take_step())
            seconds.append(time.perf_counter() - started)
        return dict(seconds=seconds, losses=losses, peak_memory_bytes=peak_memory_bytes())


def peak_memory_bytes():
    """Returns the peak of resident memory. That of getrusage would include the parent process."""
    try:
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None


def matmul_gflops():
    """Measures square products: the size grows until one takes 50 ms; the result is the best within 0.6 s."""

    def product(left, right):
        started = time.perf_counter()
        left @ right
        return time.perf_counter() - started

    side = 128
    while True:
        left, right = torch.rand(side, side) - 0.5, torch.rand(side, side) - 0.5
        product(left, right)
        best = product(left, right)
        if best >= 0.05 or side == 8192:
            started = time.perf_counter()
            runs = 1
            while runs < 3 or time.perf_counter() - started < 0.6:
                best = min(best, product(left, right))
                runs += 1
            return 2 * side**3 / best / 1e9
        side *= 2


def requests():
    """Yields the lines of stdin. A thread reads them, to notice their end even in the middle of a step."""
    lines = queue.Queue()

    def read():
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get().split()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("vocab-size", "context", "batch", "layers", "heads", "width", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--text", required=True, help="token ids, u16 each")
    parser.add_argument("--windows", required=True, help="starts of the windows in the text, u64 each")
    parser.add_argument("--weights", required=True, help="f32 each, linear layers as [inputs, outputs]")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    incoming = requests()
    torch.set_num_threads(args.threads)
    training = Training(args)
    parameters = sum(parameter.numel() for parameter in training.parameters)
    version = f"PyTorch {torch.__version__}"
    answer("ready", dict(version=version, parameters=parameters, threads=torch.get_num_threads()))
    for request in incoming:
        match request:
            case ["run", steps] if steps.isdigit() and int(steps) > 0:
                answer("steps", training.run(int(steps)))
            case ["peak"]:
                answer("peak", dict(matmul_gflops=matmul_gflops()))
            case _:
                answer("error", f"not a request: {' '.join(request)}")


if __name__ == "__main__":
    main()
