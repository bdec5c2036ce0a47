r"""Graph4MM: a frozen language model that reads, after its text, what queries found in text and pictures of a graph.

.. math::
    H_T \leftarrow H_T + \mathcal{A}_T H_T, \quad H_V \leftarrow H_V + \mathcal{A}_V H_V, \qquad
    Z = \mathrm{MMQFormer}(Q, H_T, H_V), \qquad \mathrm{prompt} = \mathrm{text} \oplus Z W

with :math:`H_T` rows of the text subgraph's nodes, :math:`H_V` of the image subgraph's, :math:`\mathcal A` hop-diffused
attention over the edges of each (:mod:`mmkg.encoders.hop_diffusion`), Q learnt queries. Trained: everything but the
language model and what made the vectors. Switches give the paper's ablations and baselines: Hop-Aware in place of
diffusion, no structure for one modality or both, the graph as a modality of its own (a row that a GCN made).
Source: Graph4MM, ICML 2025, arXiv:2510.16990; decisions and the released code in ``docs/systems/graph4mm.md``.

Shape suffixes: B items, N nodes of all graphs, T text nodes of a graph at most, V pictures, Q queries, W width of the
graph's side, d width of a word embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mmkg.encoders import open_encoder
from mmkg.encoders.hop_aware import HopAware
from mmkg.encoders.hop_diffusion import HopDiffusionConfig
from mmkg.encoders.qformer import MmQformer, MmQformerConfig
from mmkg.errors import ConfigError
from mmkg.reasoners.graph4mm_config import Graph4mmConfig, Structure
from mmkg.reasoners.llm import FrozenLlm
from mmkg.reasoners.llm_forms import IGNORED
from mmkg.reasoners.llm_texts import sequence_loss
from mmkg.reasoners.node_rows import NodeRows
from mmkg.reasoners.prompts import PromptMaker, pad_targets, rows_of_items
from mmkg.reasoners.slots import Prompt
from mmkg.subgraphs.assemble import Floats, MultimodalSubgraph
from mmkg.subgraphs.batch_multimodal import MultimodalBatch, batch_multimodal

SLOTS = ("text", "graph")


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph4mmRead:
    """What the model made of a batch before the language model sees it.

    Attributes:
        prompt: rows for the language model.
        tokens: of each text.
        query_BQW: what the queries found; None where no graph is read.
        text_NW: rows of the text nodes as the queries read them; None where no graph is read.
        image_NW: the same of the pictures.
    """

    prompt: Prompt
    tokens: Sequence[Sequence[int]]
    query_BQW: Tensor | None = None
    text_NW: Tensor | None = None
    image_NW: Tensor | None = None


class Graph4mm(nn.Module):
    """Diffusion and queries around a frozen language model; a :class:`~mmkg.reasoners.prompts.Reasoner`."""

    relation_RD: Tensor

    def __init__(self, config: Graph4mmConfig, llm: FrozenLlm, *, relation_RD: Tensor) -> None:
        """Make what is trained.

        Args:
            config: what of it.
            llm: stays as it is unless its own settings say so.
            relation_RD: vectors of the relations' labels, those of `EXTRA_RELATIONS` last: how many relations there are
                and how many numbers a vector has; kept to tell graphs apart.

        Raises:
            ConfigError: the template names a slot that there is not, or the settings do not fit the language model.
        """
        super().__init__()
        self.config, self.llm = config, llm
        self.prompts = PromptMaker(llm, config.template, SLOTS)
        if config.reads_graph and "graph" not in self.prompts.template.slots:
            raise ConfigError(
                f"the prompt '{config.template}' has no <graph>, so what is read of it would be lost; add it, or set "
                "reads = 'nothing'"
            )
        self._parts: WeakKeyDictionary[MultimodalSubgraph, tuple[MultimodalSubgraph, MultimodalSubgraph]]
        self._parts = WeakKeyDictionary()
        if config.loss == "whole" and llm.kind != "causal":
            raise ConfigError("loss = 'whole' needs a causal language model: an encoder says nothing")
        if not config.reads_graph:
            return  # with nothing that is of one graph alone
        self.register_buffer("relation_RD", relation_RD.clone())
        num_relations, dimension = relation_RD.shape
        self.text_nodes = NodeRows(
            llm,
            width=config.width,
            dimension=dimension,
            text=config.node_text,
            num_relations=num_relations if config.relations else 0,
            num_places=config.places,
            max_tokens=config.max_node_tokens,
            marks_targets=config.reads == "graph",
        )
        self.text_norm = nn.LayerNorm(config.width)
        self.output = nn.Linear(config.width, llm.width)
        if config.reads == "mean":
            return
        self.image_nodes = NodeRows(llm, width=config.width, dimension=dimension)
        self.text_structure = self._new_structure(config.text_structure)
        shares = config.modalities != "separate" and config.text_structure == config.image_structure == "diffused"
        self.image_structure = self.text_structure if shares else self._new_structure(config.image_structure)
        self.image_norm = nn.LayerNorm(config.width)  # as text_norm: rows and queries begin on one scale. Ours
        self.gcn: nn.Module | None = None
        if config.graph_as_modality:
            settings = {"node_width": config.width, "num_layers": 2}
            self.gcn = open_encoder("gcn", settings)
        self.qformer = MmQformer(
            MmQformerConfig(
                width=config.width,
                num_heads=config.num_heads,
                num_layers=config.num_layers,
                num_queries=config.num_queries,
                order=config.order,
                dropout=config.dropout,
                pass_text=config.pass_text,
            )
        )

    def _new_structure(self, structure: Structure) -> nn.Module | None:
        config = self.config
        if structure == "none":
            return None
        if structure == "hop_aware":
            return HopAware(config.width, config.max_hops)
        diffusion: nn.Module = open_encoder(
            "hop_diffusion",
            HopDiffusionConfig(
                node_width=config.width,
                num_heads=config.num_heads,
                alpha=config.alpha,
                num_terms=None if config.num_terms == "exact" else config.num_terms,
                heads=config.attention_heads,
                mask=config.mask,
                residual=config.residual,
                rescale=config.rescale,
                isolated=config.isolated,
                self_loops=config.self_loops,
            ),
        )
        return diffusion

    # --- a reasoner --------------------------------------------------------------------------------------------------

    def read_questions(
        self,
        tokens: Sequence[Sequence[int]],
        subgraphs: Sequence[MultimodalSubgraph],
        patches: Sequence[Floats | None],  # noqa: ARG002 - a question's own picture is a node of its subgraph here
    ) -> Graph4mmRead:
        """Return the prompts; see :class:`~mmkg.reasoners.prompts.Reasoner`. A question's own picture is not read.

        Raises:
            ConfigError: a question without text, or not a subgraph for each.
        """
        text_BLd, mask_BL = self.prompts.embed(tokens)
        if self.training and self.config.word_dropout:
            hidden_BL = torch.rand(mask_BL.shape, device=mask_BL.device) < self.config.word_dropout
            text_BLd = text_BLd.masked_fill(hidden_BL[:, :, None], 0)
        text = rows_of_items(text_BLd, mask_BL)
        if not self.config.reads_graph:
            nothing = text_BLd.new_zeros(0, self.llm.width)
            prompt = self.prompts.fill([{"text": row, "graph": nothing} for row in text])
            return Graph4mmRead(prompt=prompt, tokens=tokens)
        if len(subgraphs) != len(tokens):
            raise ConfigError(f"expected a subgraph for each of {len(tokens)} questions, found {len(subgraphs)}")
        texts, images = zip(*(self._parts_of(subgraph) for subgraph in subgraphs), strict=True)
        device = text_BLd.device
        text_batch, image_batch = batch_multimodal(texts).to(device), batch_multimodal(images).to(device)
        text_NW = self.text_nodes(texts, text_batch)
        if self.config.reads == "mean":
            row_BKW, mask_BK = _mean(self.text_norm(text_NW), text_batch)
            return self._prompt(tokens, text, row_BKW, mask_BK)
        image_NW = self.image_nodes(images, image_batch)
        # sums over many edges stay in float32, whatever the rest is computed in
        with torch.autocast(device.type, enabled=False):
            target_BW = self._target(text_batch, text_NW.float()) if self.gcn is not None else None
            if self.config.modalities == "joint":
                whole = batch_multimodal(subgraphs).to(device)
                text_NW, image_NW = self._diffuse_jointly(subgraphs, whole, text_NW.float(), image_NW.float())
            else:
                text_NW = _structured(self.text_structure, texts, text_batch, text_NW.float())
                image_NW = _structured(self.image_structure, images, image_batch, image_NW.float())
        text_NW = self.text_norm(self.text_nodes.mark(text_NW, text_batch))
        image_NW = self.image_norm(image_NW)
        out = self.qformer(
            _padded(text_NW, text_batch), text_batch.mask_GM, _padded(image_NW, image_batch), image_batch.mask_GM
        )
        there_B = text_batch.mask_GM.any(1) | image_batch.mask_GM.any(1)
        row_BKW, mask_BK = out.query_BQd, there_B[:, None].expand(out.query_BQd.shape[:2])
        if target_BW is not None:
            row_BKW = torch.cat([row_BKW, target_BW[:, None]], dim=1)
            mask_BK = torch.cat([mask_BK, there_B[:, None]], dim=1)
        if out.text_BTd is not None:
            row_BKW = torch.cat([row_BKW, out.text_BTd], dim=1)
            mask_BK = torch.cat([mask_BK, text_batch.mask_GM], dim=1)
        read = self._prompt(tokens, text, row_BKW, mask_BK)
        return replace(read, query_BQW=out.query_BQd, text_NW=text_NW, image_NW=image_NW)

    def answer_loss(self, read: Graph4mmRead, targets: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return the loss of each item, (B,), summed over tokens, and how many they are.

        Of the target alone (G4-13); or of text and target, never of the rows that came from the graph.
        """
        prompt = read.prompt
        target_BT = pad_targets(targets, prompt.row_BPd.device)
        if self.config.loss == "target":
            out = self.llm(prompt.row_BPd, prompt.mask_BP, target_BT)
            return out.nll_B, out.count_B
        label_BP = torch.full(prompt.mask_BP.shape, IGNORED, device=prompt.row_BPd.device)
        for row, (tokens, (start, stop)) in enumerate(zip(read.tokens, prompt.place_of["text"].tolist(), strict=True)):
            label_BP[row, start:stop] = torch.tensor(list(tokens), device=label_BP.device)
        return sequence_loss(self.llm, prompt.row_BPd, prompt.mask_BP, label_BP, target_BT)

    def further_losses(self, read: Graph4mmRead, generator: torch.Generator) -> Mapping[str, tuple[float, Tensor]]:  # noqa: ARG002
        """Return none: the paper has the language model's loss alone."""
        return {}

    def prompt_rows(self, subgraph: MultimodalSubgraph, num_patches: int) -> tuple[int, int]:  # noqa: ARG002
        """Return how many rows a prompt has; see :class:`~mmkg.reasoners.prompts.Reasoner`."""
        rows = 0
        if self.config.reads_graph and subgraph.num_nodes:
            num_texts = int((~subgraph.is_image).sum())
            if self.config.reads == "mean":
                return self.prompts.fixed_rows + int(num_texts > 0), 1
            rows = self.config.num_queries + int(self.config.graph_as_modality)
            rows += num_texts if self.config.pass_text else 0
        return self.prompts.fixed_rows + rows, 1

    def _prompt(
        self, tokens: Sequence[Sequence[int]], text: Sequence[Tensor], row_BKW: Tensor, mask_BK: Tensor
    ) -> Graph4mmRead:
        """Texts and rows of the graph in the template's places."""
        graph = rows_of_items(self.output(row_BKW), mask_BK)
        prompt = self.prompts.fill([{"text": row, "graph": rows} for row, rows in zip(text, graph, strict=True)])
        return Graph4mmRead(prompt=prompt, tokens=tokens)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _parts_of(self, subgraph: MultimodalSubgraph) -> tuple[MultimodalSubgraph, MultimodalSubgraph]:
        """Text and image subgraph; cut once for each subgraph, and kept as long as it lives."""
        if subgraph not in self._parts:
            images = subgraph.image_subgraph(lent=self.config.lent_edges)
            self._parts[subgraph] = (subgraph.text_subgraph(), images)
        return self._parts[subgraph]

    def _target(self, batch: MultimodalBatch, text_NW: Tensor) -> Tensor:
        """The GCN's mean state of each graph's targets, (B, W); zeros where there is none."""
        if self.gcn is None:
            raise ConfigError("graph_as_modality is off, so there is no graph network")
        graph = batch.graph.with_inverse_relations().with_self_relation()
        state_NW = self.gcn(graph, text_NW, text_NW.new_zeros(graph.num_relations, 0))
        is_target_N = batch.seed_N > 0
        of_graph = graph.graph_index()[is_target_N]
        total_BW = state_NW.new_zeros(batch.num_graphs, state_NW.shape[1])
        total_BW = total_BW.index_add(0, of_graph, state_NW[is_target_N])
        count_B = torch.bincount(of_graph, minlength=batch.num_graphs)
        return total_BW / count_B.clamp(min=1)[:, None]

    def _diffuse_jointly(
        self, subgraphs: Sequence[MultimodalSubgraph], whole: MultimodalBatch, text_NW: Tensor, image_NW: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One diffusion over text nodes, pictures and the edges between them."""
        flags = [flag for subgraph in subgraphs for flag in subgraph.is_image.tolist()]
        is_image_N = torch.tensor(flags, dtype=torch.bool, device=text_NW.device)
        row_NW = text_NW.new_zeros(len(flags), text_NW.shape[1])
        row_NW = row_NW.index_copy(0, (~is_image_N).nonzero()[:, 0], text_NW)
        row_NW = row_NW.index_copy(0, is_image_N.nonzero()[:, 0], image_NW)
        row_NW = _structured(self.text_structure, subgraphs, whole, row_NW)
        return row_NW[~is_image_N], row_NW[is_image_N]


def _structured(
    structure: nn.Module | None, subgraphs: Sequence[MultimodalSubgraph], batch: MultimodalBatch, row_NW: Tensor
) -> Tensor:
    """Rows after what the graph around them adds."""
    if structure is None:
        return row_NW
    if isinstance(structure, HopAware):
        hops = [hop for subgraph in subgraphs for hop in subgraph.hop_N.tolist()]
        aware_NW: Tensor = structure(row_NW, torch.tensor(hops, dtype=torch.int64, device=row_NW.device))
        return aware_NW
    diffused_NW: Tensor = structure(batch.graph, row_NW, row_NW.new_zeros(batch.graph.num_relations, 0))
    return diffused_NW


def _padded(row_NW: Tensor, batch: MultimodalBatch) -> Tensor:
    """Rows by graph, (G, M, W)."""
    if not len(row_NW):
        return row_NW.new_zeros(*batch.mask_GM.shape, row_NW.shape[1])
    return row_NW[batch.node_GM]


def _mean(row_NW: Tensor, batch: MultimodalBatch) -> tuple[Tensor, Tensor]:
    """The mean row of each graph, (G, 1, W), and where there is one."""
    row_GMW = _padded(row_NW, batch) * batch.mask_GM[:, :, None]
    count_G = batch.mask_GM.sum(1)
    return row_GMW.sum(1, keepdim=True) / count_G.clamp(min=1)[:, None, None], (count_G > 0)[:, None]
