"""One step of the MM-QFormer, forward and backward, against the same layers written as BERT and LAVIS write them.

    python benchmarks/qformer_step.py [--quick]

The peer has a matrix each for q, k and v, scores as a matrix of its own, a mask that is added to them, softmax and a
second product. It carries our weights, and its values are compared first. 16 items of 32 queries and up to 64 rows of
text, with up to 20 rows of pictures (vectors of whole pictures) or 257 (a ViT's patches); a quarter is padding. Ours
and the peer take turns, medians are compared. With the text passed on both do the same matrix products, which are four
fifths of the time: nothing is to be won but the memory of the scores. A model that passes on its tokens alone, as
Graph4MM does, does not need the text of the last layer; we leave it out, the usual form does not.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from measure import Ratio, machine
from torch import Tensor, nn

from mmkg.encoders.qformer import MmQformer, MmQformerConfig, RowAttention

ITEMS, QUERIES, TEXT = 16, 32, 64
TARGET_TEXT, TARGET_TOKENS = 0.95, 1.0  # as fast where the work is the same, never slower where it is less


class BertAttention(nn.Module):
    """Attention with its dense layer, residual and norm, as in BERT's files: nothing fused."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.dense = (nn.Linear(width, width) for _ in range(4))
        self.norm = nn.LayerNorm(width)

    def heads(self, row_BKd: Tensor) -> Tensor:
        return row_BKd.view(*row_BKd.shape[:2], self.num_heads, -1).permute(0, 2, 1, 3)

    def forward(self, query_BQd: Tensor, row_BKd: Tensor, mask_BK: Tensor) -> Tensor:
        query_BHQD, key_BHKD, value_BHKD = (
            self.heads(project(rows))
            for project, rows in ((self.query, query_BQd), (self.key, row_BKd), (self.value, row_BKd))
        )
        score_BHQK = query_BHQD @ key_BHKD.transpose(-1, -2) / query_BHQD.shape[-1] ** 0.5
        score_BHQK = score_BHQK + (1.0 - mask_BK[:, None, None, :].to(score_BHQK.dtype)) * -10_000.0
        read_BQHD = (score_BHQK.softmax(dim=-1) @ value_BHKD).permute(0, 2, 1, 3).contiguous()
        return self.norm(self.dense(read_BQHD.view(query_BQd.shape)) + query_BQd)


class BertLayer(nn.Module):
    """Self-attention of queries and text, cross-attention of queries, FFN of queries."""

    def __init__(self, config: MmQformerConfig) -> None:
        super().__init__()
        self.num_queries = config.num_queries
        self.self_attention = BertAttention(config.width, config.num_heads)
        self.cross_attention = BertAttention(config.width, config.num_heads)
        hidden = config.ffn_multiple * config.width
        self.widen, self.narrow = nn.Linear(config.width, hidden), nn.Linear(hidden, config.width)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, both_BKd: Tensor, mask_BK: Tensor, image_BVd: Tensor, image_mask_BV: Tensor) -> Tensor:
        both_BKd = self.self_attention(both_BKd, both_BKd, mask_BK)
        query_BQd, text_BTd = both_BKd[:, : self.num_queries], both_BKd[:, self.num_queries :]
        query_BQd = self.cross_attention(query_BQd, image_BVd, image_mask_BV)
        query_BQd = self.norm(self.narrow(nn.functional.relu(self.widen(query_BQd))) + query_BQd)
        return torch.cat([query_BQd, text_BTd], dim=1)


class BertQformer(nn.Module):
    """The peer, with our weights."""

    def __init__(self, ours: MmQformer) -> None:
        super().__init__()
        self.query_Qd = nn.Parameter(ours.query_Qd.detach().clone())
        self.layers = nn.ModuleList(BertLayer(ours.config) for _ in ours.layers)
        for theirs, layer in zip(self.layers, ours.layers, strict=True):
            copy_attention(theirs.self_attention, layer.self_attention, layer.self_end.norm)
            copy_attention(theirs.cross_attention, layer.cross_attention, layer.cross_end.norm)
            theirs.widen.load_state_dict(layer.ffn[0].state_dict())
            theirs.narrow.load_state_dict(layer.ffn[2].state_dict())
            theirs.norm.load_state_dict(layer.ffn_end.norm.state_dict())

    def forward(self, text_BTd: Tensor, text_mask_BT: Tensor, image_BVd: Tensor, image_mask_BV: Tensor) -> Tensor:
        query_BQd = self.query_Qd.expand(len(text_BTd), -1, -1)
        both_BKd = torch.cat([query_BQd, text_BTd], dim=1)
        mask_BK = torch.cat([text_mask_BT.new_ones(query_BQd.shape[:2]), text_mask_BT], dim=1)
        for layer in self.layers:
            both_BKd = layer(both_BKd, mask_BK, image_BVd, image_mask_BV)
        return both_BKd


def copy_attention(theirs: BertAttention, ours: RowAttention, norm: nn.Module) -> None:
    key, value = ours.key_value.weight.chunk(2), ours.key_value.bias.chunk(2)
    theirs.query.load_state_dict(ours.query.state_dict())
    theirs.key.load_state_dict({"weight": key[0], "bias": value[0]})
    theirs.value.load_state_dict({"weight": key[1], "bias": value[1]})
    theirs.dense.load_state_dict(ours.output.state_dict())
    theirs.norm.load_state_dict(norm.state_dict())


def batch_of(width: int, num_images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of text and pictures of all items, three quarters of them there."""
    generator = torch.Generator().manual_seed(0)
    text_mask_BT = torch.rand(ITEMS, TEXT, generator=generator) < 0.75
    image_mask_BV = torch.rand(ITEMS, num_images, generator=generator) < 0.75
    return (
        torch.randn(ITEMS, TEXT, width, generator=generator),
        text_mask_BT,
        torch.randn(ITEMS, num_images, width, generator=generator),
        image_mask_BV,
    )


def step_of(module: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        module.zero_grad(set_to_none=True)
        forward().square().sum().backward()

    return step


def compare(config: MmQformerConfig, num_images: int, *, repeats: int) -> Ratio:
    torch.manual_seed(0)
    ours = MmQformer(config)
    theirs = BertQformer(ours)
    batch = batch_of(config.width, num_images)

    def our_rows() -> Tensor:
        out = ours(*batch)
        return out.query_BQd if out.text_BTd is None else torch.cat([out.query_BQd, out.text_BTd], dim=1)

    def their_rows() -> Tensor:
        both_BKd = theirs(*batch)
        return both_BKd if config.pass_text else both_BKd[:, :QUERIES]

    with torch.no_grad():  # our padding is 0, theirs anything
        torch.testing.assert_close(our_rows()[:, :QUERIES], their_rows()[:, :QUERIES], rtol=1e-4, atol=1e-4)
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_ in range(repeats + 1):
        for work, into in zip((step_of(ours, our_rows), step_of(theirs, their_rows)), seconds, strict=True):
            started = time.perf_counter()
            work()
            if round_ > 0:  # the first fills caches
                into.append(time.perf_counter() - started)
    text = "text too" if config.pass_text else "tokens alone"
    return Ratio(
        work=f"L {config.num_layers} V {num_images} d {config.width}, {text}",
        peer="BERT's form",
        ours=statistics.median(seconds[0]),
        theirs=statistics.median(seconds[1]),
        unit="s",
        target=TARGET_TEXT if config.pass_text else TARGET_TOKENS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a narrow model, a few seconds")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{machine()}, torch {torch.__version__} on {torch.get_num_threads()} threads")
    sizes = {"width": 192, "num_heads": 3} if arguments.quick else {"width": 768, "num_heads": 12}
    for pass_text in (True, False):
        for num_layers in (1, 2):
            for num_images in (20, 257):
                config = MmQformerConfig(
                    num_layers=num_layers, num_queries=QUERIES, dropout=0, pass_text=pass_text, **sizes
                )
                print(compare(config, num_images, repeats=3 if arguments.quick else 7))


if __name__ == "__main__":
    main()
