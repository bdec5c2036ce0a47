"""From a recipe and its data to a model: embeddings, what features add, the encoder on the train graph, the decoder."""

import torch

from mmkg.encoders import open_encoder
from mmkg.errors import ConfigError
from mmkg.reasoners.feature_map import FeatureMap
from mmkg.reasoners.link_predictor import LinkPredictor
from mmkg.reasoners.triple_scores import open_decoder
from mmkg.subgraphs.batch import MessageGraph
from mmkg.training.data import LinkPredictionData
from mmkg.training.recipes import LinkPredictionRecipe


def train_graph(data: LinkPredictionData) -> MessageGraph:
    """Return the graph that messages travel on: edge e is train triple e, T + e its inverse, then N self edges.

    Valid and test triples are not in it.
    """
    head_T, relation_T, tail_T = torch.from_numpy(data.train.T.copy())
    forward = MessageGraph(
        src_E=head_T,
        relation_E=relation_T,
        dst_E=tail_T,
        num_nodes=data.num_entities,
        num_relations=data.num_relations,
    )
    return forward.with_inverse_relations().with_self_relation()


def make_model(recipe: LinkPredictionRecipe, data: LinkPredictionData) -> LinkPredictor:
    """Return a new model with its first vectors drawn from torch's generator.

    Raises:
        ConfigError: no encoder is called so, or encoder or decoder cannot have this width, or the data were read
            without the features of the recipe.
    """
    read = "none" if data.features is None else data.features.kind
    if read != recipe.features:
        raise ConfigError(f"the recipe has features = '{recipe.features}', the data were read with '{read}'")
    decoder = open_decoder(recipe.decoder, width=recipe.width, num_entities=data.num_entities, conve=recipe.conve)
    encoder = None if recipe.encoder == "none" else open_encoder(recipe.encoder, _encoder_settings(recipe))
    return LinkPredictor(
        num_entities=data.num_entities,
        num_relations=data.num_relations,
        decoder=decoder,
        width=recipe.width,
        encoder=encoder,
        graph=None if encoder is None else train_graph(data),
        feature_maps=_feature_maps(recipe, data),
        initial_scale=recipe.initial_scale,
        dropout=recipe.dropout,
    )


def _feature_maps(recipe: LinkPredictionRecipe, data: LinkPredictionData) -> dict[str, FeatureMap]:
    if data.features is None:
        return {}
    return {
        modality: FeatureMap(torch.from_numpy(known.row), torch.from_numpy(known.vector), width=recipe.width)
        for modality, known in data.features.known.items()
    }


def _encoder_settings(recipe: LinkPredictionRecipe) -> dict[str, object]:
    settings: dict[str, object] = {
        "node_width": recipe.width,
        "relation_width": recipe.width,
        "num_layers": recipe.num_layers,
        "residual": recipe.residual,
        "normalisation": recipe.normalisation,
        "initial_gain": recipe.initial_gain,
        "dropout": recipe.encoder_dropout,
        "backend": recipe.backend,
    }
    if recipe.encoder in ("rgat", "gat"):
        settings |= {"num_heads": recipe.num_heads, "attention_dropout": recipe.attention_dropout}
    if recipe.encoder == "rgat":
        settings["message"] = recipe.message
    return settings
