"""Questions tied to pictures and to the subgraphs of what is seen in them: what MR-MKG is pre-trained on.

Source: Lee et al., ACL 2024, arXiv:2406.02030, appendix A.3: an instance is a picture, a question with its answer, and
the scene graph of the picture with crops; only questions about a region are used.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmkg.embeddings.base import Embedder
from mmkg.subgraphs.assemble import MultimodalSubgraph
from mmkg.subgraphs.scene_graph import BATCH_SIZE, SceneRelations, build_scene_subgraphs
from mmkg.tasks.json_files import count_reasons
from mmkg.tasks.region_questions import RegionQuestion, RegionQuestions
from mmkg.tasks.visual_genome import SceneGraph


@dataclass(frozen=True, kw_only=True)
class GroundedInstance:
    """A picture, a question about a region of it, and the subgraph of its scene, which other instances may share."""

    picture: Path
    asked: RegionQuestion
    subgraph: MultimodalSubgraph

    @property
    def question(self) -> str:
        """What is asked."""
        return self.asked.question

    @property
    def answer(self) -> str:
        """What people answered."""
        return self.asked.answer


@dataclass(frozen=True, kw_only=True)
class GroundedInstances:
    """What MR-MKG pre-trains on.

    Attributes:
        instances: in order of scenes, then of questions.
        left_out: reason to number of questions: free_form, those of the reader, no_scene, no_objects, no_picture,
            not_a_picture, other_size.
        without_picture: reason to number of objects, in the scenes of the instances, that have no picture.
    """

    instances: tuple[GroundedInstance, ...]
    left_out: Mapping[str, int]
    without_picture: Mapping[str, int]


def grounded_instances(
    asked: RegionQuestions,
    scenes: Sequence[SceneGraph],
    pictures: Mapping[int, Path],
    embedder: Embedder,
    *,
    relations: SceneRelations | None = None,
    whole_picture: bool = False,
    batch_size: int = BATCH_SIZE,
) -> GroundedInstances:
    """Tie questions about regions to their pictures and to the subgraphs of their scenes.

    Only scenes that a question asks about are built. The paper's 18,448 instances are a part of what Visual Genome
    has; by what rule they were chosen is not known, so none is left out here that could be used.

    Args:
        asked: questions about regions, with the number of free-form ones, which are never used.
        scenes: of any images.
        pictures: file of a picture, by image_id.
        embedder: see :func:`build_scene_subgraphs`.
        relations: that number the predicates; those of `scenes` unless given.
        whole_picture: see :func:`build_scene_subgraphs`.
        batch_size: see :func:`build_scene_subgraphs`.
    """
    relations = relations or SceneRelations.of(scenes)
    left_out: Counter[str] = Counter({"free_form": asked.num_free_form, **count_reasons(asked.rejects)})
    by_image: dict[int, list[RegionQuestion]] = {}
    for question in asked.questions:
        by_image.setdefault(question.image_id, []).append(question)
    usable = []
    for scene in scenes:
        if (questions := by_image.pop(scene.image_id, None)) is None:
            continue
        if not scene.objects or scene.image_id not in pictures:
            left_out["no_picture" if scene.objects else "no_objects"] += len(questions)
        else:
            usable.append((scene, pictures[scene.image_id], questions))
    left_out["no_scene"] += sum(map(len, by_image.values()))
    instances: list[GroundedInstance] = []
    without_picture: Counter[str] = Counter()
    built = build_scene_subgraphs(
        ((scene, picture) for scene, picture, _ in usable),
        embedder,
        relations=relations,
        whole_picture=whole_picture,
        batch_size=batch_size,
    )
    for (_, picture, questions), scene_subgraph in zip(usable, built, strict=True):
        if scene_subgraph.picture_failed is not None:
            left_out[scene_subgraph.picture_failed] += len(questions)
            continue
        without_picture.update(scene_subgraph.without_picture.values())
        instances += [
            GroundedInstance(picture=picture, asked=question, subgraph=scene_subgraph.subgraph)
            for question in questions
        ]
    return GroundedInstances(
        instances=tuple(instances),
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        without_picture=dict(sorted(without_picture.items())),
    )
