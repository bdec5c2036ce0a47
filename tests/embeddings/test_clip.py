"""CLIP: the numbers of open_clip's own pipeline, whatever the model comes from."""

import io
import json
import logging
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mmkg.config import EmbeddingsConfig
from mmkg.embeddings import clip as clip_module
from mmkg.embeddings import encode_pictures, encode_texts, open_embedder, vector_archive
from mmkg.embeddings.base import OutOfMemory
from mmkg.embeddings.clip import ClipEmbedder
from mmkg.errors import EmbeddingError
from tests.embeddings.made_models import CONTEXT, make_clip_folder, picture, pictures

TEXTS = ["a red cross", "Ünïcödé & more", "", "flag " * 40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip_folder(tmp_path_factory.mktemp("models") / "clip", words=False)


@pytest.fixture(scope="module")
def word_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip_folder(tmp_path_factory.mktemp("models") / "words")


def settings(model: object, **changes: object) -> EmbeddingsConfig:
    return EmbeddingsConfig(**{"kind": "clip", "model": str(model), "device": "cpu", "batch_size": 8, **changes})


@pytest.fixture(scope="module")
def embedder(folder: Path) -> ClipEmbedder:
    return ClipEmbedder(settings(folder))


def open_clip_rows(folder: Path, shown: list[bytes], precision: str = "fp32") -> np.ndarray:
    """What open_clip gives for pictures, one at a time, by its own transform."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", precision=precision)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    with torch.inference_mode():
        opened = [preprocess(Image.open(io.BytesIO(data))).unsqueeze(0).to(dtype) for data in shown]
        features = torch.cat([model.eval().encode_image(pixels).float() for pixels in opened])
    return torch.nn.functional.normalize(features, dim=-1).numpy()


def test_rows_of_pictures_of_any_size_are_those_of_open_clip(folder: Path, embedder: ClipEmbedder) -> None:
    sizes = [(32, 32), (33, 90), (200, 31), (7, 5), (128, 128)]
    shown = [picture(number, size, kind) for number, size in enumerate(sizes) for kind in ("PNG", "JPEG")]
    rows = embedder.embed_images([embedder.prepare_image(data) for data in shown])
    np.testing.assert_allclose(rows, open_clip_rows(folder, shown), atol=1e-5)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pictures_are_prepared_as_the_model_says(tmp_path: Path, mode: str, interpolation: str) -> None:
    other = make_clip_folder(tmp_path / "other")
    path = other / "open_clip_config.json"
    told = json.loads(path.read_text())
    told["preprocess_cfg"] = {"resize_mode": mode, "interpolation": interpolation, "mean": [0.1, 0.2, 0.3], "std": 0.5}
    path.write_text(json.dumps(told))
    shown = [picture(number, (50, 37)) for number in range(8)]
    embedder = open_embedder(settings(other))
    rows = embedder.embed_images([embedder.prepare_image(data) for data in shown])
    np.testing.assert_allclose(rows, open_clip_rows(other, shown), atol=1e-5)
    assert json.loads(embedder.identity.preprocessing)["resize_mode"] == mode


def test_pixels_reach_the_model_as_open_clip_makes_them_to_the_last_bit(
    folder: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def keep(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels)
        return torch.ones(len(pixels), 24)

    monkeypatch.setattr(embedder._model, "_encode_image", keep)
    shown = [picture(number, (61, 45), "JPEG") for number in range(5)]
    embedder.embed_images([embedder.prepare_image(data) for data in shown])
    preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")[2]
    assert torch.equal(seen[0], torch.stack([preprocess(Image.open(io.BytesIO(data))) for data in shown]))
    assert seen[0].is_contiguous()


def test_rows_of_texts_are_those_of_open_clip(folder: Path, embedder: ClipEmbedder) -> None:
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
        expected = model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(embedder.embed_texts(TEXTS), expected, atol=1e-5)


def test_rows_in_bf16_are_those_of_open_clip_in_bf16_and_near_those_in_fp32(
    folder: Path, embedder: ClipEmbedder
) -> None:
    shown = [picture(number) for number in range(8)]
    lower = open_embedder(settings(folder, precision="bf16"))
    rows = lower.embed_images([lower.prepare_image(data) for data in shown])
    np.testing.assert_allclose(rows, open_clip_rows(folder, shown, "bf16"), atol=5e-3)
    assert lower.identity.precision == "bf16"
    assert lower.identity.weights == embedder.identity.weights
    assert lower.identity.digest != embedder.identity.digest
    cosines = (rows * embedder.embed_images([embedder.prepare_image(data) for data in shown])).sum(axis=1)
    assert cosines.min() > 0.999
    assert not np.array_equal(rows, open_clip_rows(folder, shown))


def test_a_model_of_words_reads_its_own_vocabulary(word_folder: Path, embedder: ClipEmbedder) -> None:
    of_words = open_embedder(settings(word_folder))
    rows = of_words.embed_texts(["FRANCE", "france", "red"])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    assert not np.allclose(rows[0], rows[2], atol=1e-3)
    assert of_words.identity.tokenizer != embedder.identity.tokenizer


def test_a_text_beyond_the_context_is_cut_and_counted(embedder: ClipEmbedder, word_folder: Path) -> None:
    for clip in (embedder, open_embedder(settings(word_folder))):
        just = " ".join(["flag"] * (CONTEXT - 2))  # with start and end
        assert clip.count_cut([just, f"{just} red", "", "flag"]) == 1
        rows = clip.embed_texts([f"{just} red", f"{just} cross"])
        np.testing.assert_array_equal(rows[0], rows[1])


def test_weights_of_an_architecture_come_from_a_file(
    folder: Path, embedder: ClipEmbedder, tmp_path: Path, monkeypatch
) -> None:
    architecture = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny.json").write_text(json.dumps(architecture))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    open_clip.factory._rescan_model_configs()
    checkpoint = tmp_path / "trained.pt"
    torch.save({"state_dict": load_file(folder / "model.safetensors")}, checkpoint)
    from_file = open_embedder(settings("tiny", pretrained=str(checkpoint)))
    assert from_file.embed_texts(TEXTS).tobytes() == embedder.embed_texts(TEXTS).tobytes()
    assert from_file.identity.weights == embedder.identity.weights
    assert (from_file.identity.model, from_file.identity.pretrained) == ("tiny", "trained.pt")
    with pytest.raises(EmbeddingError, match=r"no pretrained tag of tiny is called 'laion'.*Nor is it a file"):
        open_embedder(settings("tiny", pretrained="laion"))


def test_random_weights_are_told_and_are_the_same_for_a_seed(
    folder: Path, tmp_path: Path, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    architecture = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny.json").write_text(json.dumps(architecture))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    open_clip.factory._rescan_model_configs()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, again, other = (open_embedder(settings("tiny", random_seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.identity.digest == again.identity.digest
    assert one.identity.weights != other.identity.weights
    assert one.identity.pretrained == "random:1"
    assert caplog.text.count("tiny has random weights: set `pretrained`") == 3


def test_the_same_weights_in_another_architecture_are_another_embedder(embedder: ClipEmbedder, tmp_path: Path) -> None:
    quick = make_clip_folder(tmp_path / "clip", words=False, quick_gelu=True)
    one, other = embedder.identity, open_embedder(settings(quick)).identity
    assert (one.weights, one.model) == (other.weights, other.model)
    assert one.digest != other.digest


def test_where_a_folder_lies_is_no_part_of_the_identity(tmp_path: Path) -> None:
    one = open_embedder(settings(make_clip_folder(tmp_path / "here" / "clip")))
    other = open_embedder(settings(make_clip_folder(tmp_path / "there" / "clip")))
    assert one.identity == other.identity


def test_what_cannot_be_loaded_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match=r"Did you mean 'ViT-B-32'\?.*Nor is it a folder"):
        open_embedder(settings("ViT-B-33"))
    bare = make_clip_folder(tmp_path / "bare")
    weights = bare / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}  # the file is mapped
    weights.write_bytes(b"not tensors")
    with pytest.raises(EmbeddingError, match="bare cannot be loaded"):
        open_embedder(settings(bare))
    save_file({name: tensor for name, tensor in tensors.items() if "ln_final" not in name}, weights)
    with pytest.raises(EmbeddingError, match=r"cannot be loaded: .*ln_final"):
        open_embedder(settings(bare))
    weights.unlink()
    with pytest.raises(EmbeddingError, match=r"expected open_clip_config\.json and weights"):
        open_embedder(settings(bare))


def test_loading_leaves_the_root_logger_as_it_was(folder: Path, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    filters = list(root.filters)
    open_embedder(settings(folder))
    assert root.handlers == []
    assert root.filters == filters


def test_two_devices_give_the_rows_of_one(word_folder: Path, tmp_path: Path) -> None:
    shown = pictures(50)
    tables = []
    for device in ("cpu", "cpu,cpu"):
        config = settings(word_folder, device=device)
        embedder = open_embedder(config)
        assert len(embedder.on_devices()) == len(device.split(","))
        archive = vector_archive(tmp_path / device, embedder.identity)
        assert encode_pictures(embedder, config, shown, archive).embedded == 50
        tables.append(sorted(archive.read().to_pylist(), key=lambda row: row["content"]))
    assert tables[0] == tables[1]


def test_a_batch_that_runs_out_of_memory_inside_torch_is_halved(
    word_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(word_folder)
    embedder = open_embedder(config)
    encode = embedder._model._encode_image

    def scarce(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return encode(pixels)

    monkeypatch.setattr(embedder._model, "_encode_image", scarce)
    archive = vector_archive(tmp_path, embedder.identity)
    report = encode_pictures(embedder, config, pictures(21), archive)
    assert (report.embedded, report.batch_size, report.out_of_memory) == (21, 2, 2)
    assert archive.keys().to_pylist() == list(dict.fromkeys(archive.keys().to_pylist()))
    with pytest.raises(OutOfMemory, match="CUDA out of memory"):
        embedder.embed_images([embedder.prepare_image(picture(1))] * 4)


def test_a_resumed_run_gives_the_bytes_of_a_whole_one(word_folder: Path, tmp_path: Path) -> None:
    config = settings(word_folder)
    embedder = open_embedder(config)
    tables = []
    for name, steps in {"whole": [40], "resumed": [3, 17, 40]}.items():
        archive = vector_archive(tmp_path / name, embedder.identity)
        for count in steps:
            encode_pictures(embedder, config, pictures(count), archive)
            encode_texts(embedder, config, [f"flag {number}" for number in range(count)], archive)
        tables.append(sorted(archive.read().to_pylist(), key=lambda row: row["content"]))
    assert tables[0] == tables[1]


def test_auto_measures_a_large_model_once_and_takes_what_is_faster(
    word_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def choose(asked: str, num_parameters: int, seconds_of) -> str:
        measured.extend([num_parameters, seconds_of("fp32"), seconds_of("bf16")])
        return "bf16"

    monkeypatch.setattr(clip_module, "choose_precision", choose)
    embedder = open_embedder(settings(word_folder, precision="auto"))
    assert embedder.identity.precision == "bf16"
    assert measured[0] == sum(tensor.numel() for tensor in load_file(word_folder / "model.safetensors").values())
    assert all(seconds > 0 for seconds in measured[1:])


def test_a_compiled_model_is_compiled_for_a_whole_batch_before_the_run(
    word_folder: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def compile_for(work):
        def compiled(rows: torch.Tensor) -> torch.Tensor:
            sizes.append(len(rows))
            return work(rows)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_for)
    compiled = open_embedder(settings(word_folder, compile=True, batch_size=5))
    assert sizes == [5]
    assert compiled.identity.digest == open_embedder(settings(word_folder)).identity.digest

    def fail(_: object):
        def compiled(rows: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C++ compiler\nand more")

        return compiled

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(EmbeddingError, match=r"cannot be compiled here: no C\+\+ compiler\. Set compile = false"):
        open_embedder(settings(word_folder, compile=True))


def test_a_gpu_has_two_threads_that_share_its_model(word_folder: Path) -> None:
    embedder = ClipEmbedder(settings(word_folder))
    embedder._models[0].device = torch.device("cuda", 0)
    one, other = embedder.on_devices()
    assert one._model is other._model is embedder._model


def test_a_preprocessing_that_ends_otherwise_is_refused(word_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        transforms = (1, 2, 3, 4)

    monkeypatch.setattr(clip_module, "image_transform_v2", lambda *_, **__: Other())
    with pytest.raises(EmbeddingError, match="its preprocessing ends in"):
        ClipEmbedder(settings(word_folder))


@pytest.mark.shared
def test_real_photographs_have_the_rows_of_open_clip(
    shared_data: Path, folder: Path, embedder: ClipEmbedder, tmp_path: Path
) -> None:
    paths = sorted((shared_data / "images" / "imagenet_sample").glob("*.jpg"))[:60]
    shown = [path.read_bytes() for path in paths]
    config = settings(folder)
    archive = vector_archive(tmp_path, embedder.identity)
    named = [(path.name, data) for path, data in zip(paths, shown, strict=True)]
    report = encode_pictures(embedder, config, named, archive)
    assert (report.embedded, report.failed) == (60, [])
    rows = embedder.embed_images([embedder.prepare_image(data) for data in shown])
    np.testing.assert_allclose(rows, open_clip_rows(folder, shown), atol=1e-5)
