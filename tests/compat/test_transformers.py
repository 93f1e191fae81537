"""transformers' quantized loading through the bridge: 4 and 8 bits, forward, generation, saved and loaded again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from _peers import peer

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


def test_models_load_in_4_and_8_bits(tmp_path: Path) -> None:
    peer("transformers")
    peer("accelerate")
    code = _PROGRAM.replace("FOLDER", repr(str(tmp_path)))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert result.stdout.strip().endswith("loaded"), result.stderr[-2000:]
