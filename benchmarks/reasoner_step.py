"""A training step of MR-MKG against the frozen language model alone on the same prompts, and how much is padding.

    python benchmarks/reasoner_step.py [--quick]

Ours: subgraphs batched, encoder, adapters, prompt, answer loss, alignment, backward, AdamW. The peer: the language
model's own forward and backward (to its inputs; it is frozen) over prompts of the same rows and the same targets, made
beforehand. A randomly initialised Llama of the size of a small real one, so that the figure says what the rest costs
beside a model that people use; its words mean nothing.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from measure import Ratio, machine
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from mmkg.reasoners.llm import wrap_llm
from mmkg.reasoners.llm_source import BUNDLED
from mmkg.reasoners.mr_mkg import MrMkg, MrMkgConfig, MrMkgInput
from mmkg.subgraphs.assemble import Picture, assemble
from mmkg.subgraphs.batch_multimodal import batch_multimodal
from mmkg.training.batches import batches_by_length, share_of_padding

MAX_RATIO = 1.15  # our step to the language model's own forward and backward
MAX_PADDING = 0.10
VECTOR, RELATIONS = 512, 200


def make_subgraph(rng: np.random.Generator):
    """The size that MR-MKG retrieves: 20 triples, some 25 entities, a picture for every second one."""
    count = 25
    vectors = [rng.standard_normal(VECTOR).astype(np.float32) for _ in range(count)]
    pictures = {
        n: [Picture(sha256=f"{n}", vector=rng.standard_normal(VECTOR).astype(np.float32))] for n in range(0, count, 2)
    }
    ends = rng.integers(0, count, (2, 20))
    return assemble(
        entity_ids=[str(n) for n in range(count)],
        labels=[None] * count,
        vectors=vectors,
        src=ends[0],
        relation=rng.integers(0, RELATIONS, 20),
        dst=ends[1],
        num_relations=RELATIONS,
        num_seeds=1,
        dimension=VECTOR,
        pictures=pictures,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller language model")
    quick = parser.parse_args().quick
    print(machine())
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["atlas-causal"])
    config = LlamaConfig(
        hidden_size=256 if quick else 768,
        intermediate_size=1024 if quick else 2048,
        num_hidden_layers=4 if quick else 12,
        num_attention_heads=8,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    llm = wrap_llm(LlamaForCausalLM(config), tokenizer)
    model = MrMkg(
        MrMkgConfig(graph_width=256, num_heads=4),
        llm,
        relation_RD=torch.randn(RELATIONS + 2, VECTOR),
        patch_width=VECTOR,
    )
    batch_size, text, target = 4, 64, 16
    tokens = torch.randint(10, len(tokenizer), (batch_size, text)).tolist()
    targets = torch.randint(10, len(tokenizer), (batch_size, target)).tolist()
    subgraphs = [make_subgraph(rng) for _ in range(batch_size)]
    patches = torch.randn(batch_size, 17, VECTOR)
    mask = torch.ones(batch_size, 17, dtype=torch.bool)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        graph = batch_multimodal(subgraphs)
        read = model.read(MrMkgInput(tokens=tokens, graph=graph, patch_BPD=patches, patch_mask_BP=mask))
        nll, count = model.answer_loss(read, targets)
        loss = nll.sum() / count.sum() + 0.1 * model.alignment_loss(read, graph, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    with torch.no_grad():
        prompt = model.read(
            MrMkgInput(tokens=tokens, graph=batch_multimodal(subgraphs), patch_BPD=patches, patch_mask_BP=mask)
        ).prompt
    rows = prompt.row_BPd.detach().clone().requires_grad_(True)
    target_BT = torch.tensor(targets)

    def alone() -> None:
        rows.grad = None
        llm(rows, prompt.mask_BP, target_BT).loss.backward()

    seconds: dict[str, list[float]] = {"ours": [], "alone": []}
    for _ in range(3 if quick else 7):  # in turns: the machine's load is the same for both
        for name, work in (("ours", ours), ("alone", alone)):
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    our_s, alone_s = (statistics.median(seconds[name][1:]) for name in ("ours", "alone"))
    print(
        Ratio(
            work=f"step, {batch_size} prompts of {prompt.row_BPd.shape[1]} rows",
            peer="the LLM alone",
            ours=our_s,
            theirs=alone_s,
            unit="s",
            target=1 / MAX_RATIO,
        )
    )
    print(f"  {our_s / alone_s:.3f} of its time, asked for {MAX_RATIO}")
    lengths = np.exp(np.random.default_rng(1).normal(4, 0.6, 5_000)).astype(np.int64) + 5
    batches = batches_by_length(lengths, 16, np.random.default_rng(0))
    shuffled = np.array_split(np.random.default_rng(0).permutation(len(lengths)), len(batches))
    print(
        f"padding of 5,000 log-normal lengths in batches of 16: {share_of_padding(lengths, batches):.1%} "
        f"(asked for {MAX_PADDING:.0%}), shuffled {share_of_padding(lengths, shuffled):.1%}"
    )


if __name__ == "__main__":
    main()
