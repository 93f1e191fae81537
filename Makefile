# SPDX-License-Identifier: Apache-2.0

# The two commands of the README: `make demo` and `make test`. Each sets up everything it needs in .venv.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
ZOO := .venv-zoo
CANDIDATES := python3.11 python3.12 python3.13 python3
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
CXX ?= g++
NATIVE := pyproject.toml CMakeLists.txt $(shell find cmake native src/bittern/ops -name '*.cpp' -o -name '*.h' -o -name '*.in' -o -name '*.cmake')
DATA ?= ../shared/data

# Every package but torch is pinned by hash in constraints.txt (`make lock` writes it). torch is pinned by its version:
# its wheels differ from one place to another, and so do the libraries for GPUs that some of them bring.
TORCH := torch==2.13.0
# The kernels' tests need an interpreter whose fma rounds once, which is younger than the Triton that torch's wheels for CUDA
# ask for; where such a wheel is installed, pip takes its Triton instead.
TRITON := triton==3.9.0

.PHONY: help demo test check lint types imports docs pytest peers slow-peers zoo slow fuzz fuzz-files kills native-test emulate neon sanitize wheel release edge lock \
	bench results results-optim results-sequences evidence evidence-long evidence-kept pretrained clean

help:
	@echo "make demo   train, pack and compare nine binary networks on handwritten digits (writes bittern-report/)"
	@echo "make test   lint, types, import layers, native tests, python tests"
	@echo "others:     lint types imports docs pytest peers slow-peers zoo slow fuzz fuzz-files kills native-test emulate neon sanitize wheel release edge lock bench results results-optim results-sequences evidence evidence-long evidence-kept pretrained clean"

demo: $(VENV)/.ready
	$(BIN)/bittern demo

test: check native-test pytest

check: lint types imports

$(VENV)/.ready: $(NATIVE) constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is missing; install it (Debian: apt install python3 python3-venv)"; exit 1; }
	@command -v $(CXX) >/dev/null || { echo "make: the C++ compiler '$(CXX)' is missing; install it (Debian: apt install g++)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "make: Python's venv module is missing; install it (Debian: apt install python3-venv)"; exit 1; }
	$(BIN)/pip install --quiet --require-hashes --no-deps --requirement constraints.txt
	@# torch is unpacked while the extension, which knows nothing of it, compiles
	$(BIN)/pip install --quiet $(TORCH) & torch=$$!; $(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .; built=$$?; \
	wait $$torch && exit $$built
	$(BIN)/pip check
	@touch $@

# Packages that tests and benchmarks compare with, beside the set-up above: their environment looks into that of the
# set-up for what both need, which constraints-peers.txt pins at the same versions.
SITE := import sysconfig; print(sysconfig.get_path("purelib"))
$(PEERS)/.ready: constraints-peers.txt $(VENV)/.ready
	@test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	@echo "import site; site.addsitedir('$$($(BIN)/python -c '$(SITE)')')" > "$$($(PEERS)/bin/python -c '$(SITE)')/set-up.pth"
	$(PEERS)/bin/pip install --quiet --require-hashes --no-deps --requirement constraints-peers.txt && $(PEERS)/bin/pip check
	@touch $@

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(find native src examples -name '*.cpp' -o -name '*.h')

types: $(VENV)/.ready
	$(BIN)/mypy

imports: $(VENV)/.ready
	$(BIN)/lint-imports

# One torch thread and one process per core: threads that wait for each other are the slow way to test. Tests of a module
# stay together, with what it prepares once, until a process has nothing left and takes some of another's.
pytest: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal $(PYTEST)

# The tests that compare with other libraries, in an environment that has them.
peers slow-peers: $(PEERS)/.ready
	PATH="$(CURDIR)/$(BIN):$$PATH" BITTERN_PEERS=1 OMP_NUM_THREADS=1 $(PEERS)/bin/python -m pytest -n auto --dist worksteal -m 'peers and $(if $(filter slow-peers,$@),slow,not slow)' \
	$(PYTEST) $$(grep -rl mark.peers tests --include='test_*.py')

# Which published networks pack: docs/results/zoo.md. Without its compiled operators torchvision builds its networks too.
zoo: $(PEERS)/.ready
	@test -x $(ZOO)/bin/python || $(BIN)/python -m venv $(ZOO)
	@for v in $(VENV) $(PEERS); do echo "import site; site.addsitedir('$$($$v/bin/python -c '$(SITE)')')"; done \
	> "$$($(ZOO)/bin/python -c '$(SITE)')/set-up.pth"
	$(ZOO)/bin/pip install --quiet --no-deps timm==1.0.31 torchvision==0.29.1
	$(ZOO)/bin/python tools/zoo --out docs/results

# The documentation as a site: build/docs/index.html.
docs: $(VENV)/.ready
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

# The pinned packages, chosen anew within the ranges of pyproject.toml; what is pinned already stays where it fits.
GPU_LIBRARIES := cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 \
	cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)
compile = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	$(addprefix --no-emit-package ,torch $(GPU_LIBRARIES)) --constraint <(echo $(TORCH)) \
	--override <(echo '$(TRITON); sys_platform == "linux"') $(1) pyproject.toml
# What LiteRT needs of it; from 1.3 on it refuses Python 3.11, at which uv does not look.
STRENUM := backports-strenum<1.3
lock: $(VENV)/.ready
	$(BIN)/pip install --quiet uv
	$(call compile,--extra dev) --output-file constraints.txt
	$(call compile,--extra dev --extra peers) --constraint <(echo '$(STRENUM)') --constraint <(sed -n 's/ \\$$//; /==/p' constraints.txt) --output-file constraints-peers.txt

# Thousands of new random networks at every instruction set that this CPU has, half an hour on two cores; the ordinary
# run tries the same few every time.
fuzz: $(VENV)/.ready
	for isa in $$($(BIN)/python -c 'from bittern.ops import available_isas as a; print(*(i.label for i in a()))'); do \
	echo "BITTERN_ISA=$$isa"; BITTERN_ISA=$$isa HYPOTHESIS_PROFILE=deep OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -k random tests/deploy || exit 1; done

# Packed files drawn from seeds and damaged, loaded and run by an extension under AddressSanitizer and
# UndefinedBehaviorSanitizer. FILES: how many; FIRST: the seed of the first, to go on where a run ended.
FILES ?= 200000
FIRST ?= 0
fuzz-files: $(VENV)/.ready
	$(BIN)/cmake -S . -B build/asan -G Ninja -DCMAKE_MAKE_PROGRAM="$(CURDIR)/$(BIN)/ninja" -DBITTERN_SANITIZE=ON \
	-DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" >/dev/null && $(BIN)/cmake --build build/asan
	$(BIN)/python tests/deploy/fuzz_files.py --count $(FILES) --first $(FIRST) --native build/asan

# Drivers of the benchmark killed with SIGKILL at random moments: every trial must be there, once. KILLS: how many.
KILLS ?= 100
kills: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/trials/kill_drivers.py --kills $(KILLS)

NATIVE_BUILD = $(BIN)/cmake -S . -B $(1) -G Ninja -DCMAKE_MAKE_PROGRAM='$(CURDIR)/$(BIN)/ninja' -DBITTERN_PYTHON=OFF -DBITTERN_TESTS=ON $(2) >/dev/null \
	&& $(BIN)/cmake --build $(1)
NATIVE_TEST = $(NATIVE_BUILD) && $(1)/bittern_tests

# Every method on every large model, at every instruction set that this CPU has.
slow: $(VENV)/.ready
	for isa in $$($(BIN)/python -c 'from bittern.ops import available_isas as a; print(*(i.label for i in a()))'); do \
	echo "BITTERN_ISA=$$isa"; BITTERN_ISA=$$isa $(BIN)/pytest -m "slow or not slow" tests/deploy/test_models.py tests/deploy/test_engine.py tests/deploy/test_c_export.py || exit 1; done

native-test: $(VENV)/.ready
	$(call NATIVE_TEST,build/native)

# The AVX-512 kernels compiled through SIMDe, and the AMX tiles in plain C++, so that they are tested on a CPU
# without them too; with few optimizations, for SIMDe takes three minutes to compile with all. AVX-512 without VPOPCNTDQ
# and AMX have kernels for one op alone; the others are run by those of other sets.
emulate: $(VENV)/.ready
	@echo '#include <simde/x86/avx512.h>' | $(CXX) -E -x c++ - >/dev/null 2>&1 \
	|| { echo "make emulate: SIMDe is missing; install it (Debian: apt install libsimde-dev)"; exit 1; }
	$(call NATIVE_TEST,build/emulate,-DBITTERN_EMULATE_AVX512=ON -DBITTERN_EMULATE_AMX=ON '-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG') \
	--only=avx512
	build/emulate/bittern_tests --only=avx512bw --only=amx --tests=conv2d

# The NEON kernels, cross-compiled, on an emulated ARM CPU without SDOT, and those that use it on one with everything that
# QEMU knows. Of the portable kernels it runs those that round; the integers of its convolutions, a minute under QEMU,
# are the same code on every CPU.
# qemu-user cannot start threads in a forked child, so the tests leave that out.
NEON_RUN := qemu-aarch64 -L /usr/aarch64-linux-gnu
neon: $(VENV)/.ready
	@command -v aarch64-linux-gnu-g++ >/dev/null \
	|| { echo "make neon: the cross compiler 'aarch64-linux-gnu-g++' is missing; install it (Debian: apt install g++-aarch64-linux-gnu)"; exit 1; }
	@command -v qemu-aarch64 >/dev/null \
	|| { echo "make neon: the emulator 'qemu-aarch64' is missing; install it (Debian: apt install qemu-user)"; exit 1; }
	$(call NATIVE_BUILD,build/neon,'-DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/cmake/aarch64-linux.cmake')
	$(NEON_RUN) -cpu cortex-a53 build/neon/bittern_tests --no-fork --only=neon neon
	$(NEON_RUN) -cpu cortex-a53 build/neon/bittern_tests --no-fork --only=scalar $(addprefix --tests=,elementwise codes blockwise linear real bits)
	$(NEON_RUN) -cpu max build/neon/bittern_tests --no-fork --only=neon --tests=linear --tests=groups --tests=integers neon neon_dotprod

sanitize: $(VENV)/.ready
	$(call NATIVE_TEST,build/sanitize,-DBITTERN_SANITIZE=ON -DBITTERN_EMULATE_AMX=ON)

# A wheel for the Python of .venv, in dist/; `make release` makes one for every Python that is here.
wheel: $(VENV)/.ready
	tools/wheel.sh $(BIN)/python dist

release: $(VENV)/.ready
	tools/release.sh

# ExecuTorch, the kernel library for its runtime, and the runner without Python (docs/edge.md).
edge: $(VENV)/.ready
	$(BIN)/pip install --quiet --require-hashes --no-deps --requirement constraints-peers.txt
	$(BIN)/python -c 'from bittern.deploy.executorch import build_kernels; print(build_kernels())'
	$(BIN)/cmake -S examples/edge -B build/runner -G Ninja -DCMAKE_MAKE_PROGRAM='$(CURDIR)/$(BIN)/ninja' \
	-Dexecutorch_DIR="$$($(BIN)/python -c 'from bittern.deploy.executorch import cmake_config; print(cmake_config())')" >/dev/null \
	&& $(BIN)/cmake --build build/runner

bench: $(VENV)/.ready
	$(BIN)/bittern bench ops

results: $(VENV)/.ready
	$(BIN)/bittern bench methods --data '$(DATA)/fashion_mnist' --out docs/results --epochs 2 --threads 1
	$(BIN)/bittern bench methods --data digits --model mlp --recipe paper --epochs 20 --batch-size 64 --name methods_paper --out docs/results --threads 1

# Every method with ResNet-20 on the CIFAR-10 copy, by the common recipe and by its authors', beside the float twin: some sixty
# core-hours with AVX2 alone for all images. It may be stopped at any moment, goes on where it was, and finishes the recipes
# and the seeds in turn. IMAGES, EPOCHS, JOBS: of a smaller run; trials of other sizes are others, and may lie in one store.
# It begins with what docs/results has, and puts there what it found, without the trained models, when it comes to its end
# or by `make evidence-kept`. `make evidence-long` trains three methods and the twin for LONG_EPOCHS, one seed, in the same store.
EVIDENCE ?= runs/evidence.trials
KEPT := docs/results/evidence.trials
IMAGES ?= 50000
EPOCHS ?= 10
LONG_EPOCHS ?= 60
JOBS ?= 2
TRAININGS = $(BIN)/bittern bench run --store '$(EVIDENCE)' --data '$(DATA)' --track learning_task --task cifar10_jpeg75 \
	--network resnet20_cifar --train-size $(IMAGES) --jobs $(JOBS)
evidence: $(VENV)/.ready
	$(begin_evidence)
	for recipe in common paper; do $(TRAININGS) $(addprefix --seed ,0 1 2) --recipe $$recipe --epochs $(EPOCHS) || exit 1; done
	$(MAKE) --no-print-directory evidence-kept

evidence-long: $(VENV)/.ready
	$(begin_evidence)
	for recipe in common paper; do $(TRAININGS) $(addprefix --method ,BNN IRNet ReCU) --seed 0 --recipe $$recipe --epochs $(LONG_EPOCHS) || exit 1; done
	$(MAKE) --no-print-directory evidence-kept

define begin_evidence
	mkdir -p $(dir $(EVIDENCE))
	test ! -e $(KEPT) || $(BIN)/bittern bench merge '$(EVIDENCE)' $(KEPT)
endef

evidence-kept: $(VENV)/.ready
	$(BIN)/bittern bench merge $(KEPT) '$(EVIDENCE)' $(addprefix --leave-out ,model.safetensors samples.json packed.bittern)

results-optim: $(VENV)/.ready
	$(BIN)/bittern bench optim-training --characters '$(DATA)/text/tinyshakespeare.txt' --words '$(DATA)/text/wikitext-2.valid.txt' \
	--images '$(DATA)/fashion_mnist' --out docs/results/optimizers.json
	$(BIN)/bittern bench optim-ablation --words '$(DATA)/text/wikitext-2.valid.txt' --out docs/results/optim_ablation.json
	$(BIN)/bittern bench optim-curvature --out docs/results/optim_curvature.json
	$(BIN)/bittern bench optim-scales --out docs/results/optim_scales.json

# Recurrent language models of few bits, by words and by characters, three seeds: hours. A stopped run goes on.
results-sequences: $(VENV)/.ready
	$(BIN)/bittern bench sequences '$(DATA)/text/tinyshakespeare.txt' --level character --results docs/results/sequences_characters.json
	$(BIN)/bittern bench sequences '$(DATA)/text/wikitext-2.valid.txt' --test '$(DATA)/text/wikitext-2.test.txt' --vocabulary 4000 \
	--results docs/results/sequences_words.json

# The networks that come with bittern, trained anew: what the store in build/ has already is kept, so a run that was
# stopped goes on.
pretrained: $(VENV)/.ready
	tools/pretrained.sh '$(DATA)'

clean:
	rm -rf build dist $(VENV) $(PEERS) $(ZOO) bittern-report .mypy_cache .ruff_cache .pytest_cache .hypothesis
