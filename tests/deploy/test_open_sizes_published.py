# SPDX-License-Identifier: Apache-2.0
"""transformers' models, of tiny random weights, with lengths that a call chooses: two batches, three lengths, each."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import warnings
warnings.simplefilter("ignore")
import torch
from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModel, T5Config, T5ForConditionalGeneration
from bittern.deploy import pack
from bittern.deploy.packed import from_bytes
from bittern.deploy.structure import named

def ids(batch, length):
    return torch.randint(1, 50, (batch, length))

def masked(batch, length):
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[-1, length // 2 + 1 :] = 0
    return {"input_ids": ids(batch, length), "attention_mask": mask}

def translated(batch, length):
    return {"input_ids": ids(batch, length), "decoder_input_ids": ids(batch, length + 2), "use_cache": False}

ends = {"bos_token_id": 1, "eos_token_id": 49}
small = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
of_two = {"input_ids": {1: "length"}, "attention_mask": {1: "length"}}
CASES = {
    "bert": (lambda: BertModel(BertConfig(**small, max_position_embeddings=40)), masked, of_two),
    "clip": (lambda: CLIPTextModel(CLIPTextConfig(**small, **ends, max_position_embeddings=40)), masked, of_two),
    "t5": (lambda: T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=1,
                                                       num_heads=4)),
           translated, {"input_ids": {1: "source"}, "decoder_input_ids": {1: "target"}}),
}
torch.manual_seed(0)
build, example, dynamic = CASES[NAME]
model = build().eval()
packed = pack(model, example(2, 7), dynamic=dynamic)
again = from_bytes(packed.to_bytes())
with torch.no_grad():
    for batch in (1, 3):
        for length in (1, 12, 33):
            given = example(batch, length)
            expected, found = named(model(**given)), named(again(**given))
            assert list(expected) == list(found)
            assert all(torch.equal(found[name], value) for name, value in expected.items()), (batch, length)
if NAME != "t5":
    try:
        packed(**example(2, 41))
        raise AssertionError("41 is more than there are positions for")
    except ValueError as error:
        assert "40" in str(error) and "41" in str(error), error
print("equal")
"""


@pytest.mark.peers("transformers")
@pytest.mark.parametrize("name", ["bert", "clip", "t5"])
def test_published_models(name: str) -> None:
    """In a process of its own: what transformers imports warns, and takes long."""
    program = f"NAME = {name!r}\n{_PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("equal"), done.stderr[-3000:]
