"""Ensembles: saved, calibrated, loaded, and equal to what plain transformers and peft give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification

from assay.errors import ArtifactError, ConflictError, ModelLoadError, ModelNotFoundError
from assay.models.calibration import fit_temperature
from assay.models.checkpoints import read_backbone, read_classifier, read_tokenizer
from assay.models.inputs import InputEncoder
from assay.models.loading import default_format, describe_backbone, load, make_pooler
from assay.models.manifest import Backbone, Manifest
from assay.models.members import AdapterMembers, Members, WholeMembers
from assay.models.options import LoadOptions
from assay.models.pooling import ensure_head_bias
from assay.models.saving import save
from assay.models.scorer import EncodedInput
from assay.models.trunk import transformer_layers
from tiny_models import save_family

torch.set_num_threads(1)
OPTIONS = LoadOptions()
TEXTS = [(f"prompt {i}", "an answer" * (i + 1)) for i in range(6)]


def manifest(backbone: Path | None = None, trunk_layers: int = 0) -> Manifest:
    return Manifest(
        name="toy",
        version=3,
        created=0,
        kind="whole",
        members=["."],
        backbone=describe_backbone(str(backbone), None, backbone) if backbone else None,
        trunk_layers=trunk_layers,
        input_format="concat",
        max_tokens=64,
    )


def adapters(
    folder: Path, members: int = 3, trunk_layers: int = 1, backbone: Backbone | None = None
) -> AdapterMembers:
    """Random adapters on the layers above the trunk, each with its own head."""
    backbone = backbone or describe_backbone(str(folder), None, folder)
    base = read_backbone(backbone, OPTIONS)
    pooler = make_pooler(base, read_tokenizer(str(folder), OPTIONS), OPTIONS, backbone)
    head = "score" if hasattr(base, "score") else "classifier"
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj", "query", "value", "query_proj", "value_proj"],
        layers_to_transform=[1],
        modules_to_save=[head],
    )
    names = [f"member_{i}" for i in range(members)]
    torch.manual_seed(1)
    model = get_peft_model(base, config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    made = AdapterMembers(model, pooler, names, trunk_layers)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    for layer in made.heads():
        torch.nn.init.normal_(layer.weight)
        torch.nn.init.normal_(layer.bias)
    model.eval()
    return made


def encoder(folder: Path) -> InputEncoder:
    tokenizer = read_tokenizer(str(folder), OPTIONS)
    return InputEncoder(tokenizer, default_format(tokenizer), 64)


def pairs(folder: Path) -> list[tuple[EncodedInput, EncodedInput]]:
    encode = encoder(folder).encode
    texts = [encode(*text) for text in TEXTS]
    return list(zip(texts[::2], texts[1::2], strict=True))


def scores(members: Members, folder: Path) -> np.ndarray:
    encode = encoder(folder).encode
    return members.score([encode(*text) for text in TEXTS]).numpy()


@pytest.mark.parametrize("family", ["bert", "llama-pad-is-eos"])
def test_an_adapter_ensemble_scores_as_each_adapter_does_in_plain_peft(
    family: str, tmp_path: Path
) -> None:
    backbone = save_family(family, tmp_path / "backbone")
    members = adapters(backbone)
    trained = scores(members, backbone)
    folder = save(members, encoder(backbone), manifest(backbone, 1), tmp_path / "store")
    model = load("toy@3", store=tmp_path / "store")
    np.testing.assert_allclose(scores(model.members, backbone), trained, atol=1e-5)
    assert model.card.id == "toy@3"
    assert model.card.assay.calibration is None
    for index in range(3):
        plain = adapters_alone(folder / f"members/member_{index}", backbone)
        np.testing.assert_allclose(trained[:, index], scores(plain, backbone)[:, 0], atol=1e-5)


def adapters_alone(folder: Path, backbone: Path) -> Members:
    base = read_backbone(describe_backbone(str(backbone), None, backbone), OPTIONS)
    pooler = make_pooler(base, read_tokenizer(str(backbone), OPTIONS), OPTIONS)
    model = PeftModel.from_pretrained(base, str(folder))
    model.eval()
    return AdapterMembers(model, pooler, ["default"], trunk_layers=0)


def mean_by_hand(folder: Path, layers: int, adapter: Path, text: tuple[str, str]) -> float:
    """Backbone cut and pooled by hand: one text, no padding, the saved adapter merged in."""
    base = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, num_hidden_layers=layers
    )
    ensure_head_bias(base)
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().eval()
    row = encoder(folder).encode(*text)
    inputs = {"input_ids": torch.tensor([row.ids])}
    if row.type_ids is not None:
        inputs["token_type_ids"] = torch.tensor([row.type_ids])
    backbone = getattr(merged, merged.base_model_prefix)
    with torch.inference_mode():
        hidden = backbone(**inputs).last_hidden_state[0]
        head = merged.score if hasattr(merged, "score") else merged.classifier
        return float(head(hidden.mean(dim=0)))


@pytest.mark.parametrize("family", ["bert", "llama-pad-is-eos", "deberta"])
def test_a_head_on_the_mean_of_the_tokens_reads_the_real_ones_alone(
    family: str, tmp_path: Path
) -> None:
    folder = save_family(family, tmp_path / "backbone")
    backbone = describe_backbone(str(folder), None, folder, layers=2, pool="mean")
    members = adapters(folder, members=2, backbone=backbone)
    saved = save(
        members,
        encoder(folder),
        manifest(folder, 1).model_copy(update={"backbone": backbone}),
        tmp_path / "store",
    )
    model = load("toy@3", store=tmp_path / "store")
    expected = [
        [mean_by_hand(folder, 2, saved / f"members/member_{i}", text) for i in range(2)]
        for text in TEXTS
    ]
    np.testing.assert_allclose(scores(model.members, folder), expected, atol=1e-5)
    assert model.card.assay.pool == "mean"


def test_only_the_lowest_layers_of_a_backbone_are_kept(tmp_path: Path) -> None:
    folder = save_family("bert", tmp_path / "backbone")
    whole = describe_backbone(str(folder), None, folder)
    kept = read_backbone(describe_backbone(str(folder), None, folder, layers=1), OPTIONS)
    assert len(transformer_layers(kept)) == 1
    lowest = transformer_layers(read_backbone(whole, OPTIONS))[0].state_dict()
    for name, weight in transformer_layers(kept)[0].state_dict().items():
        assert torch.equal(weight, lowest[name])


def test_a_shared_trunk_changes_no_score(tmp_path: Path) -> None:
    backbone = save_family("bert", tmp_path / "backbone")
    apart = scores(adapters(backbone, trunk_layers=0), backbone)
    np.testing.assert_allclose(scores(adapters(backbone), backbone), apart, atol=1e-6)
    assert np.ptp(apart, axis=1).min() > 0.01  # members differ


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_calibration_takes_each_members_offset_off(family: str, tmp_path: Path) -> None:
    backbone = save_family(family, tmp_path / "backbone")
    results = []
    for store, constant in (("plain", 0.0), ("shifted", 7.5)):
        members = adapters(backbone)
        with torch.no_grad():
            members.heads()[1].bias.add_(constant)
        save(
            members,
            encoder(backbone),
            manifest(backbone, 1),
            tmp_path / store,
            pairs(backbone),
        )
        results.append(load("toy", store=tmp_path / store))
    plain, shifted = (scores(model.members, backbone) for model in results)
    np.testing.assert_allclose(plain, shifted, atol=1e-5)  # so neither do std, lcb and min differ
    np.testing.assert_allclose(plain.mean(axis=0), 0.0, atol=1e-5)
    one, other = (model.card.assay.calibration for model in results)
    assert one is not None
    assert other is not None
    assert other.offsets[1] - one.offsets[1] == pytest.approx(7.5, abs=1e-4)
    assert one.pairs == 3
    differences = (plain[0::2] - plain[1::2]).mean(axis=1)
    assert one.quantiles[0] == pytest.approx(differences.min(), abs=1e-5)
    assert one.quantiles[50] == pytest.approx(np.median(differences), abs=1e-5)


def test_whole_models_make_an_ensemble_too(tmp_path: Path) -> None:
    folders = [save_family("bert", tmp_path / str(seed), seed) for seed in range(2)]
    tokenizer = read_tokenizer(str(folders[0]), OPTIONS)
    models = [read_classifier(str(folder), OPTIONS) for folder in folders]
    members = WholeMembers([make_pooler(model, tokenizer, OPTIONS) for model in models])
    alone = [scores(load(str(folder)).members, folder)[:, 0] for folder in folders]
    save(members, encoder(folders[0]), manifest(), tmp_path / "store")
    together = load("toy@3", store=tmp_path / "store")
    np.testing.assert_allclose(scores(together.members, folders[0]).T, alone, atol=1e-6)


def test_a_whole_model_saved_by_assay_loads_with_plain_transformers(tmp_path: Path) -> None:
    source = save_family("bert", tmp_path / "source")
    model = load(str(source))
    folder = save(model.members, model.encoder, manifest(), tmp_path / "store")
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = model.encoder.tokenizer(*TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        expected = float(plain(**inputs).logits[0, 0])
    assert model.score([model.encode(*TEXTS[0])])[0, 0] == pytest.approx(expected, abs=1e-5)


def test_a_version_is_never_written_twice(tmp_path: Path) -> None:
    model = load(str(save_family("bert", tmp_path / "source")))
    save(model.members, model.encoder, manifest(), tmp_path / "store")
    with pytest.raises(ConflictError, match="toy@3"):
        save(model.members, model.encoder, manifest(), tmp_path / "store")


@pytest.mark.parametrize("path", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_a_damaged_file_is_named(tmp_path: Path, path: str, damage: str) -> None:
    model = load(str(save_family("bert", tmp_path / "source")))
    folder = save(model.members, model.encoder, manifest(), tmp_path / "store")
    if damage == "delete":
        (folder / path).unlink()
    else:
        content = bytearray((folder / path).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / path).write_bytes(content)
    with pytest.raises(ArtifactError, match=path):
        load("toy", store=tmp_path / "store")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"members": ["../../elsewhere"]}, "members"),
        ({"files": {"/etc/passwd": "0"}}, "files"),
        ({"version": "x"}, "version"),
        (None, "its text"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(
    tmp_path: Path, change: dict[str, object] | None, named: str
) -> None:
    model = load(str(save_family("bert", tmp_path / "source")))
    path = save(model.members, model.encoder, manifest(), tmp_path / "store") / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text("garbage" if change is None else json.dumps({**content, **change}))
    with pytest.raises(ArtifactError, match=named):
        load("toy@3", store=tmp_path / "store")


def test_what_is_no_reward_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = save_family("bert", tmp_path / "labels")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): str(i) for i in range(3)}
    config["label2id"] = {str(i): i for i in range(3)}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="3 labels"):
        load(str(folder))

    headless = save_family("llama", tmp_path / "headless")
    model = AutoModelForSequenceClassification.from_pretrained(headless)
    model.model.save_pretrained(headless)
    config = json.loads((headless / "config.json").read_text())
    (headless / "config.json").write_text(json.dumps({**config, "id2label": {"0": "0"}}))
    with pytest.raises(ModelLoadError, match="score"):
        load(str(headless))

    pickled = save_family("bert", tmp_path / "pickled")
    model = AutoModelForSequenceClassification.from_pretrained(pickled)
    (pickled / "model.safetensors").unlink()
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(ModelLoadError):
        load(str(pickled))
    assert load(str(pickled), LoadOptions(allow_pickle=str(pickled))).card.id == "pickled@1"


@pytest.mark.parametrize("name", ["nowhere", "toy@9", "./toy", "", "a b", "x/y/z"])
def test_a_model_that_is_not_there_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        load(name, store=tmp_path)


def test_temperature_is_that_of_a_known_logit_model() -> None:
    # Half of the pairs at d = 2 would win with p = sigmoid(2 / T): with 3 of 4 right, T = 2 / ln 3.
    differences = np.array([[2.0], [2.0], [2.0], [-2.0]])
    assert fit_temperature(differences) == pytest.approx(2.0 / np.log(3.0), rel=0.01)
