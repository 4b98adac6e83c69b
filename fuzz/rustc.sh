#!/usr/bin/env bash
# Stands before rustc (RUSTC_WRAPPER): counts branches and compares in keyward and in the targets, and nowhere else,
# so that the fuzzer follows our code and the libraries are built without the cost.
set -euo pipefail
rustc=$1
shift
crate=
previous=
for argument in "$@"; do
  [[ $previous == --crate-name ]] && crate=$argument
  previous=$argument
done
counted=()
if [[ " ${KEYWARD_FUZZ_CRATES:-} " == *" $crate "* ]]; then
  counted=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Ccodegen-units=1
  )
fi
exec "$rustc" "$@" "${counted[@]}"
