"""Stage 1: questions about regions of pictures, each with the scene graph of its picture and crops of what is in it.

Source: Lee et al., ACL 2024, arXiv:2406.02030, section 4.1 and appendix A.3. Ours, since not said there: valid and test
pictures are drawn with all their questions, the question's own picture is read in parts, and answers are free text, so
that a valid score is exact match.
"""

from pathlib import Path
from typing import Any

from mmkg.embeddings import Embedder, open_embedder
from mmkg.errors import TrainingError
from mmkg.reasoners.llm import FrozenLlm
from mmkg.subgraphs.grounded import GroundedInstance, grounded_instances
from mmkg.subgraphs.scene_graph import SceneRelations
from mmkg.tasks.region_questions import read_region_questions
from mmkg.tasks.visual_genome import find_picture, read_scene_graphs
from mmkg.training.reasoning.patches import embed_patches
from mmkg.training.reasoning.questions import GraphQuestion, QuestionSet, split_off
from mmkg.training.reasoning.recipe import SceneRecipe, open_reasoning_recipe
from mmkg.training.reasoning.run import evaluate_questions, train_questions
from mmkg.training.run_folder import read_run_config
from mmkg.training.runner import Progress


def train_scenes(
    recipe: SceneRecipe | str,
    data_folder: Path,
    run_folder: Path,
    *,
    pictures_folder: Path | None = None,
    llm: FrozenLlm | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on the files of a folder in the form of Visual Genome, and leave a run folder.

    Args:
        recipe: a recipe or its name.
        data_folder: scene graphs, questions, regions and their mapping.
        run_folder: made if it is not there.
        pictures_folder: the pictures; None looks for them in ``data_folder``.
        llm, resume, progress: see :func:`train_questions`.

    Returns:
        The content of ``metrics.json``.

    Raises:
        TrainingError: no question is left to learn from; see :func:`train_questions`.
        DumpError: a file is missing or not what its name says.
    """
    if isinstance(recipe, str):
        opened = open_reasoning_recipe(recipe)
        if not isinstance(opened, SceneRecipe):
            raise TrainingError(f"{recipe}: not a recipe of scenes; choose one such as mr_mkg/pretrain_tiny")
        recipe = opened
    pictures_folder = pictures_folder or data_folder
    questions = scene_questions(recipe, data_folder, pictures_folder, open_embedder(recipe.embeddings))
    inputs = {"data": str(data_folder.resolve()), "pictures": str(pictures_folder.resolve())}
    return train_questions(recipe, questions, run_folder, inputs=inputs, llm=llm, resume=resume, progress=progress)


def evaluate_scenes(
    run_folder: Path,
    *,
    split: str = "test",
    data_folder: Path | None = None,
    pictures_folder: Path | None = None,
    llm: FrozenLlm | None = None,
) -> dict[str, Any]:
    """Answer a split of a run's questions again; write ``metrics-SPLIT.json`` and ``report-SPLIT.html``.

    Args:
        run_folder: of a finished run.
        split: train | valid | test, by picture as then.
        data_folder: scene graphs and questions; None is where they were.
        pictures_folder: None looks in a ``data_folder`` that is given, else where they were.
        llm: of the run's recipe, where it is open already.

    Raises:
        ConfigError: no split is called so.
        TrainingError: there is no such run, or language model, embedder or relations are others than then.
    """
    recipe, config = read_run_config(run_folder, SceneRecipe)
    pictures_folder = pictures_folder or data_folder or Path(config["pictures"])
    embedder = open_embedder(recipe.embeddings)
    questions = scene_questions(recipe, data_folder or Path(config["data"]), pictures_folder, embedder)
    return evaluate_questions(recipe, questions.reporting(split), run_folder, split=split, llm=llm)


def scene_questions(recipe: SceneRecipe, data_folder: Path, pictures_folder: Path, embedder: Embedder) -> QuestionSet:
    """Read, cut and embed; split by picture.

    Raises:
        TrainingError: no question is left to learn from, or none to report on.
    """
    scenes = read_scene_graphs(data_folder).scenes
    asked = read_region_questions(data_folder)
    found = {scene.image_id: find_picture(pictures_folder, scene.image_id) for scene in scenes}
    pictures = {image_id: path for image_id, path in found.items() if path is not None}
    relations = SceneRelations.of(scenes)
    grounded = grounded_instances(asked, scenes, pictures, embedder, relations=relations)
    paths = {str(one.asked.image_id): one.picture for one in grounded.instances}
    patches, failed = embed_patches(paths.items(), embedder, grid=recipe.patches.grid)
    images = list(paths)
    test = split_off(images, recipe.test_share, recipe.random_seed)
    rest = [image for image in images if image not in test]
    # of those that remain, as large a share of all as was asked for
    share = recipe.valid_share / (1 - recipe.test_share)
    valid = split_off(rest, min(share, 0.5), recipe.random_seed) if len(rest) > 1 else set()

    def of(names: set[str]) -> list[GraphQuestion]:
        chosen = [one for one in grounded.instances if str(one.asked.image_id) in names]
        return [_question(one, patches) for one in chosen]

    train = of(set(rest) - valid)
    if not train or not test:
        left = ", ".join(f"{count:,} {reason}" for reason, count in grounded.left_out.items()) or "none"
        raise TrainingError(
            f"{data_folder}: expected questions about regions of at least two pictures, to learn from and to report "
            f"on, found {len(grounded.instances)} of {len(images)}; left out: {left}"
        )
    return QuestionSet(
        train=train,
        valid=of(valid),
        test=of(test),
        relation_RD=embedder.embed_texts(list(relations.texts)),
        embedder=embedder.identity.digest,
        told={
            "left_out": dict(grounded.left_out),
            "objects_without_picture": dict(grounded.without_picture),
            "pictures_without_patches": len(failed),
            "pictures": {"train": len(rest) - len(valid), "valid": len(valid), "test": len(test)},
        },
    )


def _question(one: GroundedInstance, patches: dict[str, Any]) -> GraphQuestion:
    return GraphQuestion(
        key=f"{one.asked.image_id}/{one.asked.qa_id}",
        text=f"Question: {one.question}\nAnswer:",
        subgraph=one.subgraph,
        answer=one.answer,
        patches=patches.get(str(one.asked.image_id)),
        cluster=str(one.asked.image_id),
    )
