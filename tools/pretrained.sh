#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Trains and publishes the networks that come with bittern: `tools/pretrained.sh DATA [NAME ...]`, in the set-up of `make`.
#
# DATA holds the data sets by their names; without names all networks of the table below are made. What the store has
# already is not trained again, so that a run that was stopped goes on. A network is added by a row; what a raw example
# of a new task is, for the test with the data set, says tests/bench/cards/test_use.py.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1
data=$1 store=${STORE:-build/pretrained.trials} files=src/bittern/pretrained/files tables=docs/results/pretrained
shift

# name, task, network, method, epochs, most training examples (- for all)
table='
digits                 digits         vgg_small           ReCU      8   -
wand                   wand           series_cnn          ReCU      20  -
spoken-digits          spoken_digits  ds_cnn              ReCU      10  -
fashion-mnist-recu     fashion_mnist  vgg_small           ReCU      2   12000
fashion-mnist-reactnet fashion_mnist  vgg_small           ReActNet  2   12000
blood-cells            blood_cells    cell_detector       ReCU      10  -
intents                intents        text_encoder_small  ReCU      4   -
'
while read -r name task network method epochs size; do
  [ -n "$name" ] || continue
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
  what=(--task "$task" --network "$network" --method "$method" --data "$data")
  size=($([ "$size" = - ] || echo --train-size "$size"))
  bittern bench run --store "$store" --track learning_task "${what[@]}" --epochs "$epochs" "${size[@]}" </dev/null
  [ -n "${NO_TIMES:-}" ] || bittern bench run --store "$store" --track hardware_inference "${what[@]}" </dev/null
  bittern bench publish "$store" "$name" "${what[@]}" --epochs "$epochs" "${size[@]}" --out "$files" </dev/null
done <<< "$table"
bittern bench export "$store" --out "$tables"
python -m bittern.bench.cards.page
