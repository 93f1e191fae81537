# SPDX-License-Identifier: Apache-2.0
"""transformers' quantized loading through the bridge: 4 and 8 bits, forward, generation, saved and loaded again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import warnings
warnings.simplefilter("ignore")
from bittern.compat import bitsandbytes as bridge
bridge.install()
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
shape = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, vocab_size=256)
model = LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=4)).eval()
model.save_pretrained(FOLDER + "/float")
tokens = torch.randint(0, 256, (2, 16))
four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
eight = BitsAndBytesConfig(load_in_8bit=True)
for config, layer, limit in ((four, bridge.nn.Linear4bit, 0.25), (eight, bridge.nn.Linear8bitLt, 0.03)):
    small = AutoModelForCausalLM.from_pretrained(FOLDER + "/float", quantization_config=config, device_map={"": "cpu"})
    assert type(small.model.layers[0].mlp.up_proj) is layer
    with torch.no_grad():
        exact, found = model(tokens).logits, small(tokens).logits.float()
    assert (exact - found).norm() < limit * exact.norm()
    assert small.generate(tokens, max_new_tokens=3, do_sample=False).shape == (2, 19)
    small.save_pretrained(FOLDER + "/small")
    again = AutoModelForCausalLM.from_pretrained(FOLDER + "/small", device_map={"": "cpu"})
    with torch.no_grad():
        assert torch.equal(again(tokens).logits.float(), found)
print("loaded")
"""


@pytest.mark.peers("transformers", "accelerate")
def test_models_load_in_4_and_8_bits(tmp_path: Path) -> None:
    code = _PROGRAM.replace("FOLDER", repr(str(tmp_path)))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert result.stdout.strip().endswith("loaded"), result.stderr[-2000:]


_ADAPTERS = """
import warnings
warnings.simplefilter("ignore")
from bittern.compat import bitsandbytes as bridge
bridge.install()
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2)).save_pretrained(FOLDER + "/float")
tokens = torch.randint(0, 64, (2, 16))
for bits in (4, 8):
    config = BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    load = lambda: AutoModelForCausalLM.from_pretrained(FOLDER + "/float", quantization_config=config,
                                                        device_map={"": "cpu"})
    for adapter in (
        LoraConfig(r=8, target_modules=["q_proj"]),
        IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]),
        AdaLoraConfig(target_modules=["q_proj"], init_r=8, target_r=4, total_step=20, tinit=2, tfinal=5),
    ):
        model = get_peft_model(prepare_model_for_kbit_training(load()), adapter)
        kind = type(model.base_model.model.model.layers[0].self_attn.q_proj)
        assert kind.__module__.endswith(".bnb"), kind
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.01)
        losses = []
        for _ in range(6):
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < losses[0], (bits, adapter, losses)
        model.save_pretrained(FOLDER + "/adapter")
        again = PeftModel.from_pretrained(load(), FOLDER + "/adapter").eval()
        with torch.no_grad():
            assert torch.equal(again(input_ids=tokens).logits, model.eval()(input_ids=tokens).logits)
print("adapted")
"""


@pytest.mark.peers("peft", "transformers", "accelerate")
def test_adapters_train_over_4_and_8_bits(tmp_path: Path) -> None:
    code = _ADAPTERS.replace("FOLDER", repr(str(tmp_path)))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert result.stdout.strip().endswith("adapted"), result.stderr[-2000:]
