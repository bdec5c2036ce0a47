"""Models of runs on questions, opened: a new one, one that starts from another run, the best one of a finished run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from mmkg.errors import TrainingError
from mmkg.reasoners.graph4mm import Graph4mm
from mmkg.reasoners.graph4mm_config import Graph4mmConfig
from mmkg.reasoners.llm import FrozenLlm, open_llm
from mmkg.reasoners.mr_mkg import MrMkg, MrMkgConfig
from mmkg.training.checkpoint import BEST, load_trained, read_checkpoint, trained_state
from mmkg.training.hardware import choose_device, using_threads
from mmkg.training.reasoning.question_learner import AskingSettings, QuestionLearner, check_state
from mmkg.training.reasoning.questions import QuestionSet
from mmkg.training.reasoning.recipe import QuestionRecipe
from mmkg.training.run_folder import ENVIRONMENT, read_json

_RELATIONS = ("knowledge.relation_text_RD", "relation_RD")  # vectors of a graph's relations, of either reasoner
_OF_RELATIONS = ("knowledge.free", "text_nodes.relation.weight")  # what is learnt of single relations
_SAME = 1e-3  # a number of a unit vector; the same label embedded on another device differs by less


@contextmanager
def opened_learner(
    recipe: QuestionRecipe,
    questions: QuestionSet,
    *,
    llm: FrozenLlm | None = None,
    patch_width: int | None = None,
    writes_all: bool = False,
) -> Iterator[QuestionLearner]:
    """A new model and its questions; torch's threads and generator are put back after.

    Args:
        recipe: all settings.
        questions: of the model.
        llm: of the recipe, where it is open already.
        patch_width: of a model that was trained on other questions; None is that of these.
        writes_all: see :class:`AskingSettings`.

    Raises:
        ConfigError: a question with its answer has more positions than the language model.
    """
    device = choose_device(recipe.device)
    random = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with random, using_threads(recipe.threads):
        llm = llm if llm is not None else open_llm(recipe.llm, device=device)
        torch.manual_seed(recipe.random_seed)
        width = questions.patch_width if patch_width is None else patch_width
        model = _new_reasoner(recipe.model, llm, questions, width)
        if recipe.llm.device_map == "none":
            model = model.to(device)
        else:  # the language model lies where it is
            for name, part in model.named_children():
                if name != "llm":
                    part.to(device)
        asking = AskingSettings(
            batch_size=recipe.batch_size,
            max_text_tokens=recipe.max_text_tokens,
            max_answer_tokens=recipe.max_answer_tokens,
            choice_score=recipe.choice_score,
            choose_by=recipe.choose_by,
            valid_questions=recipe.valid_questions,
            writes_all=writes_all,
        )
        yield QuestionLearner(model, questions, asking, device=device)


def _new_reasoner(
    config: MrMkgConfig | Graph4mmConfig, llm: FrozenLlm, questions: QuestionSet, patch_width: int
) -> nn.Module:
    """The reasoner that a config is of."""
    relation_RD = torch.from_numpy(questions.relation_RD)
    if isinstance(config, Graph4mmConfig):
        return Graph4mm(config, llm, relation_RD=relation_RD)
    return MrMkg(config, llm, relation_RD=relation_RD, patch_width=patch_width, num_named=1)


@contextmanager
def opened_run(
    recipe: QuestionRecipe,
    questions: QuestionSet,
    run_folder: Path,
    *,
    llm: FrozenLlm | None = None,
    writes_all: bool = False,
) -> Iterator[QuestionLearner]:
    """The best model of a finished run, to be asked questions whose graph and embedder are those it learnt from.

    Raises:
        TrainingError: there is no run, or it was trained beside another language model, on other vectors, or on the
            graph of another build.
        ConfigError: see :func:`opened_learner`.
    """
    if not (run_folder / ENVIRONMENT).exists():
        raise TrainingError(f"{run_folder}: no run here ({ENVIRONMENT} is missing). Train one first.")
    state = read_json(run_folder / ENVIRONMENT)
    patch_width = state.get("patch_width")
    with opened_learner(recipe, questions, llm=llm, patch_width=patch_width, writes_all=writes_all) as learner:
        check_state(learner, state, run_folder / BEST, same_questions=False)
        if trained_state(learner.model):
            best = read_checkpoint(run_folder / BEST)
            # a run's files can be mixed up; what the model itself says counts too
            check_state(learner, best.document.get("learner", state), run_folder / BEST, same_questions=False)
            _check_graph(learner, best.tensors, run_folder / BEST)
            load_trained(learner.model, best.tensors, run_folder / BEST)
        yield learner


def load_initial(learner: QuestionLearner, run_folder: Path) -> dict[str, list[str]]:
    """Start from another run's model: what fits by name and shape is taken, the rest starts new.

    Vectors of single relations are of one graph: they are taken only where the relations' labels have the same vectors
    in the same order.

    Returns:
        Names of tensors: ``loaded``, ``new`` (of this model only, or of another shape or graph), ``unused``.

    Raises:
        TrainingError: there is no such run, it was trained beside another language model or with another embedder, or
            nothing of it fits.
    """
    path = run_folder / BEST
    if not (run_folder / ENVIRONMENT).exists():
        raise TrainingError(f"{run_folder}: no run here to start from ({ENVIRONMENT} is missing)")
    check_state(learner, read_json(run_folder / ENVIRONMENT), path, same_questions=False)
    found = read_checkpoint(path).tensors
    own = {name: value for name, value in learner.model.named_parameters() if value.requires_grad}
    buffers = dict(learner.model.named_buffers())
    same_graph = _same_relations(_relations(found), _relations(buffers))
    fitting = [
        name
        for name, value in own.items()
        if name in found and found[name].shape == value.shape and (same_graph or name not in _OF_RELATIONS)
    ]
    if not fitting:
        raise TrainingError(f"{path}: no tensor of it fits this model; start from a run of the same model settings")
    with torch.no_grad():
        for name in fitting:
            own[name].copy_(found[name])
    used = {*fitting, *buffers}  # buffers are of the graph, not trained
    return {
        "loaded": sorted(fitting),
        "new": sorted(own.keys() - set(fitting)),
        "unused": sorted(found.keys() - used),
    }


def _relations(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Vectors of the relations' labels, where a model holds them: it does if it reads a graph."""
    return next((tensors[name] for name in _RELATIONS if name in tensors), None)


def _same_relations(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two models number the same relations alike, by the vectors of their labels."""
    if one is None or other is None or one.shape != other.shape:
        return False
    return torch.allclose(one.cpu(), other.cpu(), rtol=0, atol=_SAME)


def _check_graph(learner: QuestionLearner, tensors: Mapping[str, Tensor], path: Path) -> None:
    """See that edges of these questions are numbered as those that a model learnt from."""
    own, found = _relations(trained_state(learner.model)), _relations(tensors)
    if own is None or found is None or _same_relations(found, own):
        return  # what reads no graph fits all; a model of another kind is refused when it is loaded
    raise TrainingError(
        f"{path}: trained on the graph of another build: expected its {len(found)} relations, in their "
        f"order, found {len(own)} with other labels. Give the build it was trained on, or train anew."
    )
