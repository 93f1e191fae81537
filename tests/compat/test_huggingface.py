# SPDX-License-Identifier: Apache-2.0
"""Folders of GPTQ, AWQ and compressed-tensors: the weights of their formulas bit for bit, and whatever is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from _hub_folders import (
    Weight,
    awq_gemm,
    awq_gemv,
    gptq,
    of_layer,
    pack_quantized,
    packed,
    random_weight,
    words,
    write,
)
from _tolerance import assert_exact, assert_reduction
from bittern.compat.huggingface import load_quantized
from bittern.nn import LinearMXFP4, save_quantized
from bittern.nn import load_quantized as load_file_of_bittern

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}


class Net(nn.Module):
    """Two layers that files have in codes, one in numbers, and a head tied to the embedding."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 64)
        self.up = nn.Linear(64, 32, bias)
        self.down = nn.Linear(32, 64, bias=False)
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("table", torch.arange(3.0), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.down(self.up(self.embed(tokens)))))
        return y


def plain() -> dict[str, Tensor]:
    return {
        "embed.weight": torch.randn(10, 64).half(),
        "norm.weight": torch.ones(64).half(),
        "norm.bias": torch.zeros(64),
    }


def one_layer(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], weight: Weight, **options: Any) -> Any:
    """The layer "0" of a model that has nothing else."""
    rows, columns = weight.codes.shape
    write(folder, config, of_layer("0", tensors))
    model = nn.Sequential(nn.Linear(columns, rows, bias="bias" in tensors, device="meta"))
    return load_quantized(model, folder, **options)[0]


def test_words_by_hand() -> None:
    """3 bits: code 10 has bits 30, 31 of the first word and bit 0 of the second, code 21 bit 31 and bits 0, 1."""
    codes = [0] * 32
    codes[1], codes[10] = 5, 0b101
    assert words(codes, 3) == [0b101 << 3 | 0b01 << 30, 0b1, 0]
    codes[10], codes[21], codes[22] = 0, 0b110, 1
    assert words(codes, 3) == [0b101 << 3, 0, 0b11 | 1 << 2]
    assert words([1, 2, 3, 4, 5, 6, 7, 15], 4) == [0xF7654321 - (1 << 32)]
    assert words([0, 1, 2, 3, 4, 5, 6, 7], 4, (0, 2, 4, 6, 1, 3, 5, 7)) == [0x75316420]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
@pytest.mark.parametrize(
    ("group", "columns", "symmetric", "shuffled"),
    [
        (32, 96, False, False),
        (64, 96, True, True),
        (-1, 64, False, False),
        (256, 544, False, True),
        (128, 64, True, False),
    ],
)
def test_gptq(
    tmp_path: Path, bits: int, version: str, group: int, columns: int, symmetric: bool, shuffled: bool
) -> None:
    size = columns if group == -1 else group
    weight = random_weight(32, columns, bits, size, low=int(version == "gptq"), symmetric=symmetric, shuffled=shuffled)
    config = {**GPTQ, "bits": bits, "group_size": group, "sym": symmetric, "desc_act": shuffled}
    config |= {"checkpoint_format": version} if version != "gptq" else {}
    layer = one_layer(tmp_path, config, gptq(weight, version), weight)
    assert_exact(layer.dequantize(), weight.formula())
    assert_exact(layer.dequantize(torch.float16), weight.formula().half())
    assert (layer.order is not None) == shuffled
    assert (layer.zero is None) == symmetric
    assert layer.scale.dtype == torch.float16
    x = torch.randn(3, columns)
    largest = x.abs().max().double() * 2**bits * weight.scale.abs().max().double()
    assert_reduction(layer(x), x.double() @ weight.formula().double().t(), columns, largest)


@pytest.mark.parametrize("layout", ["gemm", "gemv"])
@pytest.mark.parametrize(("group", "columns", "width"), [(32, 320, 4), (64, 128, 2), (128, 1152, 2), (-1, 64, 2)])
def test_awq(tmp_path: Path, layout: str, group: int, columns: int, width: int) -> None:
    weight = random_weight(16, columns, 4, columns if group == -1 else group)
    tensors = awq_gemm(weight) if layout == "gemm" else awq_gemv(weight, width)
    tensors["bias"] = torch.randn(16).half()
    layer = one_layer(tmp_path, {**AWQ, "group_size": group, "version": layout}, tensors, weight, activations="int8")
    assert_exact(layer.dequantize(), weight.formula())
    assert_exact(layer.bias.detach(), tensors["bias"])
    assert layer.activations == "int8"


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("form", ["group", "channel", "symmetric", "ordered"])
def test_compressed_tensors(tmp_path: Path, bits: int, form: str) -> None:
    columns, rows = 70, 21
    size = columns if form == "channel" else 32
    weight = random_weight(rows, columns, bits, size, symmetric=form == "symmetric", shuffled=form == "ordered")
    weight = weight._replace(scale=weight.scale.bfloat16())
    tensors = pack_quantized(weight, ordered=form == "ordered")
    if form == "symmetric":
        del tensors["weight_zero_point"]
    weights = {"num_bits": bits, "type": "int", "symmetric": form == "symmetric", "strategy": "group", "group_size": 32}
    weights |= {"strategy": "channel", "group_size": None} if form == "channel" else {}
    weights["actorder"] = "group" if form == "ordered" else None
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}
    config = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups}
    layer = one_layer(tmp_path, config, tensors, weight)
    assert_exact(layer.dequantize(), weight.formula())
    tensors["weight_shape"] += 1
    with pytest.raises(ValueError, match=r"layer '0': weight_shape must be \[21, 70\]; got \[22, 71\]"):
        one_layer(tmp_path, config, tensors, weight)
    del tensors["weight_shape"]
    assert_exact(one_layer(tmp_path, config, tensors, weight).dequantize(), weight.formula())


def test_mxfp4_of_compressed_tensors(tmp_path: Path) -> None:
    """Codes are two to a byte, the first in the lower half; a scale is an exponent."""
    codes, exponents = torch.randint(16, (21, 64)), torch.randint(110, 130, (21, 2), dtype=torch.uint8)
    low, high = codes[:, 0::2], codes[:, 1::2]
    tensors = {"weight_packed": (low | high << 4).to(torch.uint8), "weight_scale": exponents, "bias": torch.ones(21)}
    weights = {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "group", "group_size": 32}
    config = {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}

    def load(changed: dict[str, Any] | None = None, columns: int = 64, **options: Any) -> Any:
        groups = {"group_0": {"targets": ["Linear"], "weights": weights | (changed or {}), "input_activations": None}}
        write(tmp_path, config | {"config_groups": groups}, of_layer("0", tensors))
        return load_quantized(nn.Sequential(nn.Linear(columns, 21, device="meta")), tmp_path, **options)[0]

    layer = load()
    magnitudes = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    numbers = magnitudes[codes % 8] * (1 - 2 * (codes // 8))
    assert isinstance(layer, LinearMXFP4)
    assert_exact(layer.dequantize(), numbers * 2.0 ** (exponents.float() - 127).repeat_interleave(32, 1))
    assert_exact(layer.bias, torch.ones(21))
    with pytest.raises(ValueError, match="activations must be \"real\" with MXFP4; got 'int8'"):
        load(activations="int8")
    for changed, message in (
        ({"num_bits": 8}, "num_bits of 'mxfp4-pack-quantized' must be 4; got 8"),
        ({"group_size": 16}, "group_size of 'mxfp4-pack-quantized' must be 32; got 16"),
        ({"type": "int"}, "weights must be of the type 'float'"),
        ({"symmetric": False}, "weights must be symmetric and in order"),
    ):
        with pytest.raises(ValueError, match=message):
            load(changed)
    with pytest.raises(ValueError, match="inputs must be a multiple of 32; the model's layer has 70"):
        load(columns=70)
    tensors["weight_scale"][3, 1] = 255
    with pytest.raises(
        ValueError, match=r"layer '0': LinearMXFP4: scales must be .* 1 of 255, which stands for no number"
    ):
        load()


def net(folder: Path, bias: bool = False, **changes: Any) -> tuple[Weight, Weight]:
    """A checkpoint of Net in two files, and its two weights."""
    up, down = random_weight(32, 64, 4, 32, low=1), random_weight(64, 32, 4, 32, low=1, shuffled=False)
    first, second = {**plain(), **of_layer("up", gptq(up))}, of_layer("down", gptq(down))
    first |= {"up.bias": torch.ones(32).half()} if bias else {}
    write(folder, {**GPTQ, **changes}, first, second)
    return up, down


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_model_in_two_files(tmp_path: Path, device: str) -> None:
    up, down = net(tmp_path, bias=True)
    with torch.device(device):
        fresh = Net(bias=True).requires_grad_(False)
    fresh.table = torch.arange(3.0)
    found = load_quantized(fresh, tmp_path)
    assert type(fresh.up) is nn.Linear
    assert_exact(found.up.dequantize(), up.formula())
    assert_exact(found.down.dequantize(), down.formula())
    assert found.head.weight is found.embed.weight
    assert found.embed.weight.dtype == torch.float16
    assert not any(p.requires_grad for p in found.parameters())
    assert torch.isfinite(found.float()(torch.arange(10))).all()
    save_quantized(found, tmp_path / "ours.safetensors")
    again = load_file_of_bittern(fresh, tmp_path / "ours.safetensors")
    assert_exact(again(torch.arange(10)), found(torch.arange(10)))


def test_the_quantizers_own_file_and_one_file_of_any_name(tmp_path: Path) -> None:
    weight = random_weight(16, 64, 4, 32)
    write(tmp_path, {}, of_layer("0", awq_gemm(weight)))
    (tmp_path / "model.safetensors").rename(tmp_path / "awq_model.safetensors")
    config = {"zero_point": True, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}
    (tmp_path / "quant_config.json").write_text(json.dumps(config))
    found = load_quantized(nn.Sequential(nn.Linear(64, 16, bias=False)), tmp_path)
    assert_exact(found[0].dequantize(), weight.formula())


def test_what_the_model_does_not_need(tmp_path: Path) -> None:
    """A bias of zeros, as old files have, and tensors that the caller names."""
    weight = random_weight(32, 64, 4, 32, low=1)
    tensors = of_layer("0", {**gptq(weight), "bias": torch.zeros(32).half()}) | {"0.rotary.inv_freq": torch.ones(2)}
    write(tmp_path, GPTQ, tensors)
    model = nn.Sequential(nn.Linear(64, 32, bias=False))
    assert load_quantized(model, tmp_path, ignore=["*.inv_freq"])[0].bias is None
    with pytest.raises(ValueError, match=r"'0\.rotary.inv_freq' is unexpected"):
        load_quantized(model, tmp_path)
    with pytest.raises(ValueError, match="ignore: 'x' matches no tensor"):
        load_quantized(model, tmp_path, ignore=["x", "*.inv_freq"])
    tensors["0.bias"][3] = 1
    write(tmp_path, GPTQ, tensors)
    with pytest.raises(ValueError, match="layer '0': the file has a bias other than 0, and the model has none"):
        load_quantized(model, tmp_path, ignore=["*.inv_freq"])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"quant_method": "bitsandbytes"}, "quant_method must be gptq, awq, compressed-tensors; got 'bitsandbytes'"),
    ({"quant_method": ["gptq"]}, "quant_method must be"),
    ({"quant_method": None}, "quant_method must be .*; got None"),
    ({"checkpoint_format": "marlin"}, r"checkpoint_format must be 'gptq' or 'gptq_v2'; got \['marlin'\]"),
    ({"checkpoint_format": "gptq", "format": "gptq_v2"}, "must be 'gptq' or 'gptq_v2'; got"),
    ({"is_marlin_format": True}, "is_marlin_format is true"),
    ({"pack_dtype": "int16"}, "pack_dtype must be 'int32'; got 'int16'"),
    ({"dynamic": {"-:.*head": {}, "+:up": {"bits": 8}}}, r"dynamic must only leave layers out .* '\+:up'"),
    ({"dynamic": 3}, "dynamic must only leave layers out"),
    ({"rotation": "hadamard"}, "rotation must not be set: layers would compute more; got 'hadamard'"),
    ({"bits": 5}, "bits must be 2, 3, 4 or 8; got 5"),
    ({"bits": True}, "bits must be an integer; got True"),
    ({"bits": 8}, r"'down.qweight' must be int32 \[8, 64\] for a layer of 32 inputs .* got int32 \[4, 64\]"),
    ({"group_size": 0}, "group_size must be at least 1, or -1"),
    ({"group_size": 16}, r"layer 'down': groups must be 32, 64, whole rows or multiples of 128 inputs; got 16"),
    ({"group_size": 64}, r"'up.qzeros' must be int32 \[1, 4\]"),
    ({"sym": True}, "with zero points of 8; got .* if the checkpoint is of 'gptq_v2' under the name of 'gptq'"),
    ({"desc_act": "no"}, "desc_act must be true or false; got 'no'"),
    ({"quant_method": "awq"}, r"'down.qweight' must be int32 \[32, 8\]"),
    ({"quant_method": "awq", "version": "gemv_fast"}, "version must be 'gemm' or 'gemv'; got"),
    ({"quant_method": "awq", "backend": "llm-awq"}, "backend must not be 'llm-awq'"),
    ({"quant_method": "awq", "zero_point": False}, "zero_point must be true"),
    ({"quant_method": "awq", "bits": 8}, "bits must be 4"),
    ({"quant_method": "compressed-tensors"}, "format must be 'pack-quantized' or 'mxfp4-pack-quantized'; got None"),
    ({"quant_method": "mxfp4"}, "must not be 'mxfp4': gpt-oss holds all experts of a layer in one tensor"),
    ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "config_groups must hold one group"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("whole")
    net(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of Net's checkpoint, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "folder"))


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_configurations_that_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    config = {"quantization_config": {**GPTQ, **changes}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"load_quantized: .*folder: .*{message}"):
        load_quantized(Net(), folder)


SECOND = "model-00002-of-00002.safetensors"


def _changed(**tensors: Tensor | None) -> Callable[[Path], None]:
    """Another value for tensors of the layer "down"; None takes one away."""

    def change(folder: Path) -> None:
        state: dict[str, Any] = {**load_file(folder / SECOND), **of_layer("down", tensors)}  # type: ignore[arg-type]
        state = {name: t for name, t in state.items() if t is not None}
        save_file(state, folder / SECOND)
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"] = {n: f for n, f in index["weight_map"].items() if f != SECOND} | dict.fromkeys(
            state, SECOND
        )
        path.write_text(json.dumps(index))

    return change


def _placed(tensor: str, file: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"][tensor] = file
        path.write_text(json.dumps(index))

    return change


def _text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_text(text))


def void(_: Any) -> None:
    """For a lambda that returns nothing."""


INDEX = "model.safetensors.index.json"
DAMAGED: list[tuple[Callable[[Path], None], str]] = [
    (_changed(scales=None), "'down.scales' is missing"),
    (_changed(qweight=torch.zeros(4, 64)), "'down.qweight' must be int32 .* got float32"),
    (_changed(qweight=torch.zeros(4, 63, dtype=torch.int32)), r"got int32 \[4, 63\]"),
    (_changed(scales=torch.full((1, 64), torch.inf).half()), "layer 'down': LinearGroups: scale must be finite"),
    (_changed(qzeros=torch.full((1, 8), -1, dtype=torch.int32)), "layer 'down': qzeros stores 15, which in 'gptq'"),
    (_changed(g_idx=torch.arange(32, dtype=torch.int32)), r"layer 'down': g_idx must put 32 inputs into each group"),
    (_changed(g_idx=torch.full((32,), -7, dtype=torch.int32)), r"g_idx must put 32 .* got groups -7 \.\.\. -7"),
    (_changed(weight=torch.zeros(64, 32)), "'down.weight' is unexpected"),
    (_changed(bias=torch.zeros(63).half()), r"'down.bias' must be float16 .* \[64\]"),
    (_placed("down.scales", "../model.safetensors"), "must lie in a .safetensors file of the folder itself"),
    (_placed("down.scales", "/etc/passwd"), "must lie in a .safetensors file of the folder itself; got '/etc/passwd'"),
    (_placed("down.scales", "a\\\\b.safetensors"), "must lie in a .safetensors file"),
    (_placed("down.scales", 7), "must lie in a .safetensors file of the folder itself; got 7"),
    (_placed("down.scales", "model-00001-of-00002.safetensors"), "must have the same tensors; 'down.scales' is in one"),
    (_placed("other", SECOND), "must have the same tensors; 'other' is in one of them alone"),
    (_text(INDEX, "{"), f"{INDEX} is damaged: it is no JSON"),
    (_text(INDEX, "[" * 100_000), f"{INDEX} is damaged: it is no JSON"),
    (_text(INDEX, "[]"), f"{INDEX} is damaged: it is no table"),
    (_text(INDEX, "{}"), "must have a table weight_map of names; got None"),
    (_text(SECOND, "x" * 100), f"{SECOND} is damaged or no safetensors file"),
    (_text("config.json", '{"quantization_config": 3}'), "quantization_config must be a table; got 3"),
    (_text("config.json", "{}"), "config.json has no quantization_config, and there is no quantize_config.json"),
    (_text("quantize_config.json", '{"checkpoint_format": 7}'), "checkpoint_format must be 'gptq' or 'gptq_v2'; got"),
    (_text("quantize_config.json", '{"bits": 8}'), "bits is 4 in one file, and 8 in quantize_config.json"),
    (lambda f: (f / INDEX).unlink(), f"it must have {INDEX} or one .safetensors file; got model-00001"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGED, ids=[message[:40] for _, message in DAMAGED])
def test_damaged_folders(folder: Path, change: Callable[[Path], None], message: str) -> None:
    change(folder)
    with pytest.raises(ValueError, match=f"load_quantized: .*folder: .*{message}"):
        load_quantized(Net(), folder)


class OtherLinear(nn.Linear):
    """A subclass, which may compute something else."""


def test_models_that_do_not_fit(folder: Path) -> None:
    model = Net()
    model.down = OtherLinear(32, 64, bias=False)
    with pytest.raises(ValueError, match=r"'down' in codes, which must be an nn.Linear; the model has a OtherLinear"):
        load_quantized(model, folder)
    del model.down
    with pytest.raises(ValueError, match="the files have 'down', which the model does not have"):
        load_quantized(model, folder)
    model = Net()
    model.up.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="layer 'up': its forward hooks would be lost"):
        load_quantized(model, folder)
    with pytest.raises(ValueError, match=r"'up\.bias' is missing"):
        load_quantized(Net(bias=True), folder)
    with pytest.raises(OSError, match="nowhere"):
        load_quantized(Net(), folder / "nowhere")
    (folder / SECOND).unlink()
    with pytest.raises(OSError, match=SECOND):
        load_quantized(Net(), folder)


def test_a_zero_point_between_two_words_of_3_bits(tmp_path: Path) -> None:
    """The neighbour of a zero point that lies in two words is its own."""
    weight = random_weight(32, 32, 3, 32, low=1)
    zero = torch.ones(32, 1, dtype=torch.long)
    zero[10], zero[21] = 7, 6
    weight = weight._replace(zero=zero)
    assert packed(zero.t() - 1, 3).tolist() == [[-(1 << 31), 1 - (1 << 31), 0b10]]  # 6 and 5: 0b110 and 0b101
    assert_exact(one_layer(tmp_path, {**GPTQ, "bits": 3}, gptq(weight), weight).dequantize(), weight.formula())


_LLAMA = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, TESTS)
import json
from pathlib import Path
import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from _hub_folders import gptq, of_layer, random_weight, write
from bittern.compat.huggingface import load_quantized
from bittern.nn import LinearGroups

torch.manual_seed(0)
folder = Path(FOLDER)
shape = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, vocab_size=64)
settings = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": False}
config = LlamaConfig(**shape, num_key_value_heads=1, tie_word_embeddings=True)
model = LlamaForCausalLM(config).eval()
state = {name: value.clone() for name, value in model.state_dict().items() if name != "lm_head.weight"}
for name, layer in model.named_modules():
    if isinstance(layer, nn.Linear) and name != "lm_head":
        weight = random_weight(*layer.weight.shape, 4, 32, low=1, shuffled=True)
        weight = weight._replace(scale=(weight.scale / 32).half())
        layer.weight.data = weight.formula()
        del state[name + ".weight"]
        state |= of_layer(name, gptq(weight))
write(folder, settings, state)
(folder / "config.json").write_text(json.dumps({**config.to_dict(), "quantization_config": settings}, default=str))
with init_empty_weights(include_buffers=False):
    empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()
empty.tie_weights()  # every parameter was made anew
small = load_quantized(empty, folder)
assert sum(isinstance(m, LinearGroups) for m in small.modules()) == 14
assert small.lm_head.weight is small.model.embed_tokens.weight
tokens = torch.randint(0, 64, (2, 8))
with torch.no_grad():
    exact, found = model.double()(tokens).logits, small(tokens).logits
assert (exact - found).norm() < 1e-4 * exact.norm(), (exact - found).norm() / exact.norm()
assert small.generate(tokens, max_new_tokens=3, do_sample=False).shape == (2, 11)
print("loaded")
"""


@pytest.mark.peers("transformers", "accelerate")
def test_a_llama_of_transformers(tmp_path: Path) -> None:
    code = _LLAMA.replace("FOLDER", repr(str(tmp_path / "llama")))
    code = code.replace("TESTS", repr(str(Path(__file__).parents[1])))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False)
    assert result.stdout.strip().endswith("loaded"), result.stderr[-2000:]
