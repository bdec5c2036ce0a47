"""From a learner and settings to the optimiser of what is trained."""

import torch

from mmkg.errors import TrainingError
from mmkg.training.learner import ChoosesGroups, Learner, ParameterGroup
from mmkg.training.settings import LoopSettings

_OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def make_optimiser(learner: Learner, settings: LoopSettings) -> tuple[torch.optim.Optimizer, list[float]]:
    """Return the optimiser of a learner's trained parameters, and of each of its groups the share of the learning rate.

    Raises:
        TrainingError: no parameter is trained, or the learner's groups do not hold each of them once.
    """
    trained = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
    if not trained:
        raise TrainingError("the model has no parameter that is trained; did all of them lose requires_grad?")
    groups = (
        list(learner.parameter_groups()) if isinstance(learner, ChoosesGroups) else _matrices_decay(learner, settings)
    )
    groups = [group for group in groups if group.parameters]
    grouped = [id(parameter) for group in groups for parameter in group.parameters]
    if sorted(grouped) != sorted(map(id, trained)):
        raise TrainingError(
            f"the groups of parameters must hold each of the {len(trained)} trained tensors once; "
            f"found {len(grouped)}, {len(set(grouped))} of them different"
        )
    optimiser = _OPTIMISERS[settings.optimiser](
        [{"params": list(group.parameters), "weight_decay": group.weight_decay} for group in groups],
        lr=settings.learning_rate,
        betas=settings.betas,
        fused=settings.fused_optimiser or None,
    )
    return optimiser, [group.rate_share for group in groups]


def _matrices_decay(learner: Learner, settings: LoopSettings) -> list[ParameterGroup]:
    trained = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
    if not settings.weight_decay:
        return [ParameterGroup(parameters=trained, weight_decay=0.0)]
    return [
        ParameterGroup(parameters=[p for p in trained if p.ndim >= 2], weight_decay=settings.weight_decay),
        ParameterGroup(parameters=[p for p in trained if p.ndim < 2], weight_decay=0.0),
    ]
