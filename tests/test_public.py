# SPDX-License-Identifier: Apache-2.0
"""The names that scripts rely on, and what importing them costs in modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bittern


def test_public_names() -> None:
    for name in ("BNN", "XNORNet", "DoReFa", "BiRealNet", "XNORNetPlusPlus", "ReActNet", "ReCU", "FDA", "IRNet"):
        assert getattr(bittern.binary, name) in bittern.binary.ALL
    for name in ("BWN", "TWN", "TTQ", "OneBit", "ParetoQ"):
        assert getattr(bittern.quant, name) in bittern.quant.ALL
    for name in ("resnet20_cifar", "resnet18_cifar", "vgg_small", "bireal_net18", "bireal_net34", "reactnet_a"):
        assert getattr(bittern.models, name) in bittern.models.ALL
    assert [op.name for op in bittern.ops.ALL] == [
        "sign",
        "clipped_sign",
        "clipped_levels",
        "masked_gradient",
        "approx_sign_gradient",
        "error_decay_gradient",
        "fourier_gradient",
        "noisy_sign",
        "adapted_sign",
        "adapted_sign_gradient",
        "standard_sign",
        "standard_sign_gradient",
        "shifted_sign",
        "shifted_sign_gradient",
        "scaled_gradient",
        "mean_magnitude",
        "window_mean",
        "pack_signs",
        "pack_levels",
        "unpack_signs",
        "binary_matmul",
        "sign_products",
        "binary_conv2d",
        "binary_block",
        "pool_bits",
        "concatenate_bits",
        "optimizer_step",
        "quantize_blockwise",
        "dequantize_blockwise",
        "quantize_4bit",
        "dequantize_4bit",
        "linear_4bit",
        "linear_4bit_backward",
        "linear_8bit",
        "dequantize_groups",
        "linear_groups",
        "multibit_quantize",
        "multibit_matvec",
    ]
    for name in bittern.__all__:
        assert getattr(bittern, name) is not None
        assert name in dir(bittern)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bittern.nothing


EACH_ALONE = """
import os, sys, torch
before = set(sys.modules)
for code in sys.argv[1:]:
    if os.fork() == 0:
        exec(code)
        print(*(set(sys.modules) - before), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, code
"""
"""Runs each text as a process would that has imported torch and nothing else, and prints which modules that added."""


def added_by(*codes: str) -> list[set[str]]:
    """The modules that each of these texts imports, by itself."""
    done = subprocess.run([sys.executable, "-c", EACH_ALONE, *codes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [set(line.split()) for line in done.stdout.splitlines()]


def own(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("bittern.")}


def test_importing_bittern_loads_nothing_heavy() -> None:
    (loaded,) = added_by("import bittern")
    heavy = {"matplotlib", "tensorboard", "typer", "triton", "rich", "PIL", "safetensors", "sympy", "hmac"}
    assert not heavy & {name.split(".")[0] for name in loaded}
    assert not {name for name in loaded if name.startswith("torch.")}
    assert own(loaded) == {"_native", "_version", "ops"}, "the ops are there at once, all else when it is asked for"


def test_packages_come_alone() -> None:
    """Asking for one package imports no other that it stands below or beside."""
    always, layers = {"_native", "_version", "ops"}, {"codes", "estimators", "input_codes", "quantizer", "start"}
    with_it = {
        "binary": {"binary", "_first_batch", "_options", "_squashed", *layers},
        "models": {"models", "nn", "_autocast", "_options", "attention_method", "_files", "_tensor_file", *layers},
        "nn": {"nn", "_autocast", "attention_method", "_files", "_tensor_file", *layers},
        "optim": {"optim"},
        "quant": {"quant", "_first_batch", "_options", "_squashed", "multibit", *layers},
        "pack": {"deploy", "nn", "_autocast", "attention_method", "_files", "_tensor_file", *layers},
    }
    loaded = added_by(*(f"import bittern; bittern.{name}" for name in with_it))
    assert [own(modules) for modules in loaded] == [always | expected for expected in with_it.values()]


def test_modules_are_there_without_an_import_of_their_own() -> None:
    names = "codes.Signs", "estimators.binarize", "quantizer.Quantizer", "start.HeNormal"
    assert len(added_by(*(f"import bittern; bittern.{name}" for name in names))) == len(names)


def test_what_is_imported_late_is_there() -> None:
    code = "import bittern; print(bittern.deploy.c_export.to_c is bittern.deploy.to_c, bittern.deploy.to_executorch)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("True <function to_executorch")
    assert {getattr(bittern.deploy, name) is not None for name in bittern.deploy.__all__} == {True}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bittern.deploy.nothing
