r"""MR-MKG: a frozen language model that reads a multimodal subgraph and a picture as rows before its text.

.. math::
    H_K = X_K W_K + b_K, \quad H_I = X_I W_I + b_I, \qquad
    \mathrm{prompt} = H'_K \oplus H'_I \oplus H_T, \qquad L = L_g + \lambda L_a

with :math:`X_K` the states of the subgraph's nodes, :math:`X_I` the picture's patches, :math:`H_T` the LLM's own word
embeddings; H' is what text (or the picture) reads in H by attention, so each has as many rows as the text has tokens.
:math:`L_g` is the negative log likelihood of the answer's tokens (the paper prints it without the minus sign), and
:math:`L_a` the alignment of pictures with their entities, on rows of :math:`H_K`: after the attention rows no longer
belong to nodes, so the paper's H' cannot be meant. Trained: adapters, encoder, relations. Frozen: the LLM and whatever
made the vectors. Source: Lee et al., ACL 2024, arXiv:2406.02030, section 3; decisions in ``docs/systems/mr_mkg.md``.

Shape suffixes: B items, L tokens, P patches, M nodes of a graph, N nodes of all graphs, d width of a word embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mmkg.errors import ConfigError
from mmkg.reasoners.adapters import Adapter
from mmkg.reasoners.alignment import Negatives, draw_pictures, triplet_alignment
from mmkg.reasoners.knowledge import EncoderName, KnowledgeEncoder
from mmkg.reasoners.llm import FrozenLlm
from mmkg.reasoners.prompts import PromptMaker, pad_patches, pad_targets, rows_of_items
from mmkg.reasoners.slots import Prompt
from mmkg.subgraphs.assemble import Floats, MultimodalSubgraph, NodeKind
from mmkg.subgraphs.batch_multimodal import MultimodalBatch, batch_multimodal

SLOTS = ("knowledge", "image", "text")


class MrMkgConfig(BaseModel):
    """What of MR-MKG is there and how large; unknown numbers of the paper are our choice."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    knowledge: Literal["multimodal", "text", "none"] = "multimodal"
    """The whole subgraph, its text part alone, or none: the ablations "+ MMKG", "+ KG", "visual only". Of text
    alone nodes of pictures keep their places in a batch, but nothing that is read or learnt depends on them."""
    pictures: bool = True
    """Whether the question's own picture is read."""
    encoder: EncoderName = "rgat"
    """rgat | gat | gcn | none; the paper's table of encoders calls gcn "GNN"."""
    num_layers: int = Field(default=2, ge=1, le=4)
    """The paper tried 1 to 4; about 2 was best."""
    num_heads: int = Field(default=4, ge=1)
    """Our choice."""
    graph_width: int = Field(default=64, ge=1)
    """Numbers of a node state. Our choice."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """In the encoder and the ranking head. Our choice."""
    query: Literal["text", "image"] = "text"
    """Q of Eq. 5: "depending on the scenario" in the paper. An item without picture is read by its text."""
    alignment_weight: float = Field(default=0.1, ge=0)
    """λ; 0 is the ablation without alignment. Unknown in the paper; unofficial versions take 0.1."""
    margin: float = Field(default=0.3, ge=0)
    """α of the alignment. Unknown in the paper; unofficial versions take 0.2 to 0.3."""
    negatives: Negatives = "all"
    """all | nearest: which other entities of the sample are negatives. Unknown in the paper."""
    pictures_per_graph: int = Field(default=8, ge=2)
    """M, pictures drawn of each graph. Unknown in the paper."""
    template: str = "<knowledge><image><text>"
    """The prompt; the paper's order."""
    vector_gain: float = Field(default=1.0, ge=0)
    """What vectors of nodes count before the encoder; 0 shows it the structure only. Our choice."""

    @property
    def reads_graph(self) -> bool:
        """Whether a subgraph is read at all."""
        return self.knowledge != "none"


@dataclass(frozen=True, kw_only=True, eq=False)
class MrMkgInput:
    """A batch of questions.

    Attributes:
        tokens: of each question's text, at least one.
        graph: their subgraphs, in order; None where the model reads none.
        patch_BPD: vectors of the patches of each question's picture; None where no question has one.
        patch_mask_BP: bool, False for padding; an item without picture has no True.
        keep_E: bool, False hides a triple of the subgraphs; None shows all.
        feature_NF: what the task knows of each node beside its vector.
    """

    tokens: Sequence[Sequence[int]]
    graph: MultimodalBatch | None = None
    patch_BPD: Tensor | None = None
    patch_mask_BP: Tensor | None = None
    keep_E: Tensor | None = None
    feature_NF: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Read:
    """What the model made of a batch before the LLM sees it.

    Attributes:
        prompt: rows for the LLM.
        node_NW: states of the nodes; None without graph.
        row_Nd: the same adapted, H_K; None without graph.
        graph: what was read; None without graph.
    """

    prompt: Prompt
    node_NW: Tensor | None
    row_Nd: Tensor | None
    graph: MultimodalBatch | None


class MrMkg(nn.Module):
    """Adapters and encoder around a frozen LLM."""

    def __init__(
        self,
        config: MrMkgConfig,
        llm: FrozenLlm,
        *,
        relation_RD: Tensor,
        patch_width: int = 0,
        num_named: int = 0,
        num_features: int = 0,
        relation_group_R: Tensor | None = None,
    ) -> None:
        """Make what is trained.

        Args:
            config: what of it.
            llm: stays as it is.
            relation_RD: vectors of the relations' labels; also says how many numbers vectors of nodes have.
            patch_width: numbers in a patch's vector; 0 where no question has a picture.
            num_named, num_features, relation_group_R: see :class:`KnowledgeEncoder`.

        Raises:
            ConfigError: the template names a slot that there is not.
        """
        super().__init__()
        self.config, self.llm = config, llm
        self.prompts = PromptMaker(llm, config.template, SLOTS)
        self.knowledge: KnowledgeEncoder | None = None
        self.knowledge_adapter: Adapter | None = None
        self.visual_adapter: Adapter | None = None
        if config.knowledge != "none":
            self.knowledge = KnowledgeEncoder(
                relation_RD,
                width=config.graph_width,
                encoder=config.encoder,
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                dropout=config.dropout,
                num_named=num_named,
                num_features=num_features,
                relation_group_R=relation_group_R,
                vector_gain=config.vector_gain,
            )
            self.knowledge_adapter = Adapter(config.graph_width, llm.width)
        if config.pictures and patch_width:
            self.visual_adapter = Adapter(patch_width, llm.width)

    def read(self, batch: MrMkgInput) -> Read:
        """Return the prompt of a batch, and the states of its nodes.

        Raises:
            ConfigError: a question without text, a graph that belongs to other questions, or none where one is read.
        """
        text_BLd, mask_BL = self.prompts.embed(batch.tokens)
        image_BPd, mask_BP = self._patches(batch, text_BLd)
        seen_BLd = self._seen(self.visual_adapter, text_BLd, image_BPd, mask_BP)
        node_NW = row_Nd = None
        text = rows_of_items(text_BLd, mask_BL)
        seen = rows_of_items(seen_BLd, mask_BL & mask_BP.any(dim=1)[:, None])
        known = [text_BLd.new_zeros(0, self.llm.width)] * len(text)
        if self.knowledge is not None and self.knowledge_adapter is not None:
            if batch.graph is None or batch.graph.num_graphs != len(batch.tokens):
                found = "none" if batch.graph is None else str(batch.graph.num_graphs)
                raise ConfigError(f"expected a subgraph for each of {len(batch.tokens)} questions, found {found}")
            graph, keep_E = batch.graph, batch.keep_E
            if self.config.knowledge == "text":
                graph, keep_E = _without_pictures(graph, keep_E)
            node_NW = self.knowledge(graph, keep_E, batch.feature_NF)
            row_Nd = self.knowledge_adapter.adapt(node_NW)
            known = self._known(graph, row_Nd, text_BLd, mask_BL, image_BPd, mask_BP)
        filled = [
            {"knowledge": one_known, "image": one_seen, "text": one_text}
            for one_known, one_seen, one_text in zip(known, seen, text, strict=True)
        ]
        return Read(prompt=self.prompts.fill(filled), node_NW=node_NW, row_Nd=row_Nd, graph=batch.graph)

    def read_questions(
        self,
        tokens: Sequence[Sequence[int]],
        subgraphs: Sequence[MultimodalSubgraph],
        patches: Sequence[Floats | None],
    ) -> Read:
        """Return what :meth:`read` makes of questions; see :class:`~mmkg.reasoners.prompts.Reasoner`."""
        device = next(self.llm.parameters()).device
        graph = batch_multimodal(subgraphs).to(device) if self.config.knowledge != "none" else None
        padded = pad_patches(patches)
        return self.read(
            MrMkgInput(
                tokens=tokens,
                graph=graph,
                patch_BPD=None if padded is None else padded[0].to(device),
                patch_mask_BP=None if padded is None else padded[1].to(device),
            )
        )

    def prompt_rows(self, subgraph: MultimodalSubgraph, num_patches: int) -> tuple[int, int]:
        """Return how many rows a prompt has; see :class:`~mmkg.reasoners.prompts.Reasoner`."""
        config = self.config
        seen = 0 if self.visual_adapter is None else num_patches
        has_nodes = bool((~subgraph.is_image).any()) if config.knowledge == "text" else subgraph.num_nodes > 0
        knows = config.knowledge != "none" and has_nodes
        by_image = config.query == "image" and seen > 0
        times = {"text": 1, "image": int(seen > 0), "knowledge": int(knows and not by_image)}
        slots = self.prompts.template.slots
        by_patches = seen if knows and by_image and "knowledge" in slots else 0
        return self.prompts.fixed_rows + by_patches, sum(times[slot] for slot in slots)

    def answer_loss(self, read: Read, targets: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return L_g of each item, (B,), summed over its answer's tokens, and how many tokens they are."""
        target_BT = pad_targets(targets, read.prompt.row_BPd.device)
        out = self.llm(read.prompt.row_BPd, read.prompt.mask_BP, target_BT)
        return out.nll_B, out.count_B

    def states(self, read: Read) -> Tensor:
        """Return the LLM's state after each prompt, (B, s): what a ranking head reads."""
        return self.llm.states(read.prompt.row_BPd, read.prompt.mask_BP).float()

    def further_losses(self, read: Read, generator: torch.Generator) -> Mapping[str, tuple[float, Tensor]]:
        """Return L_a with its weight, where there is a graph and a weight."""
        weight = self.config.alignment_weight
        if not weight or read.graph is None:
            return {}
        return {"alignment_loss": (weight, self.alignment_loss(read, read.graph, generator))}

    def alignment_loss(self, read: Read, graph: MultimodalBatch, generator: torch.Generator) -> Tensor:
        """Return L_a, a mean over the graphs of the batch; 0 where no graph has two pictures of two entities.

        Of the text part alone it is 0 too: there are no pictures.

        Args:
            read: of the batch.
            graph: of the batch.
            generator: of the M pictures of each graph, on the CPU.
        """
        if read.row_Nd is None or self.config.knowledge == "text" or len(graph.picture_K) == 0:
            return read.prompt.row_BPd.new_zeros(())
        index_N = graph.graph.graph_index()
        picture, entity, of_graph = draw_pictures(
            graph.picture_K,
            graph.entity_of_picture_K,
            index_N[graph.picture_K],
            per_graph=self.config.pictures_per_graph,
            generator=generator,
        )
        loss = triplet_alignment(
            read.row_Nd[picture],
            read.row_Nd[entity],
            entity,
            of_graph,
            margin=self.config.margin,
            negatives=self.config.negatives,
        )
        return loss / graph.num_graphs

    def _patches(self, batch: MrMkgInput, text_BLd: Tensor) -> tuple[Tensor, Tensor]:
        """H_I (B, P, d) and its mask; P is 0 where no picture is read."""
        items = len(batch.tokens)
        if self.visual_adapter is None or batch.patch_BPD is None or batch.patch_mask_BP is None:
            none = torch.zeros(items, 0, dtype=torch.bool, device=text_BLd.device)
            return text_BLd.new_zeros(items, 0, self.llm.width), none
        return self.visual_adapter.adapt(batch.patch_BPD), batch.patch_mask_BP

    def _seen(self, adapter: Adapter | None, query_BLd: Tensor, row_BPd: Tensor, mask_BP: Tensor) -> Tensor:
        seen: Tensor = torch.zeros_like(query_BLd) if adapter is None else adapter(query_BLd, row_BPd, mask_BP)
        return seen

    def _known(
        self,
        graph: MultimodalBatch,
        row_Nd: Tensor,
        text_BLd: Tensor,
        mask_BL: Tensor,
        image_BPd: Tensor,
        mask_BP: Tensor,
    ) -> list[Tensor]:
        """H'_K of each item: as many rows as its query has; none where its subgraph is empty."""
        if len(row_Nd) == 0:
            return [text_BLd.new_zeros(0, self.llm.width)] * len(text_BLd)
        row_BMd = row_Nd[graph.node_GM]
        there_B1 = graph.mask_GM.any(dim=1)[:, None]
        by_image_B1 = mask_BP.any(dim=1)[:, None] & there_B1
        if self.config.query == "text":
            by_image_B1 = torch.zeros_like(by_image_B1)
        read_BLd = self._seen(self.knowledge_adapter, text_BLd, row_BMd, graph.mask_GM)
        by_text = rows_of_items(read_BLd, mask_BL & there_B1 & ~by_image_B1)
        if not bool(by_image_B1.any()):
            return by_text
        read_BPd = self._seen(self.knowledge_adapter, image_BPd, row_BMd, graph.mask_GM)
        by_image = rows_of_items(read_BPd, mask_BP & by_image_B1)
        return [torch.cat(pair) for pair in zip(by_text, by_image, strict=True)]


def _without_pictures(graph: MultimodalBatch, keep_E: Tensor | None) -> tuple[MultimodalBatch, Tensor]:
    """The batch with no picture among the rows that are read, and which triples stay: those between other nodes."""
    other_N = graph.kind_N != NodeKind.IMAGE
    stays_E = other_N[graph.graph.src_E] & other_N[graph.graph.dst_E]
    mask_GM = graph.mask_GM.clone()
    mask_GM[graph.mask_GM] = other_N[graph.node_GM[graph.mask_GM]]  # padding names node 0, which may not be there
    return replace(graph, mask_GM=mask_GM), stays_E if keep_E is None else stays_E & keep_E
