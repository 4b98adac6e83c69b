#!/usr/bin/env bash
# Replays the corpora, then fuzzes.  fuzz/run.sh [TARGET|all] [SECONDS | runs=N]
#   fuzz/run.sh                 every target: replay, then KEYWARD_FUZZ_SECONDS (60) seconds each
#   fuzz/run.sh fields 600      ten minutes of one target
#   fuzz/run.sh wire runs=1000000
#   fuzz/run.sh all 0           only replay
# What is found new is kept in fuzz/target/corpus; a crash is written to fuzz/artifacts/TARGET and named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

wanted=${1:-all}
budget=${2:-${KEYWARD_FUZZ_SECONDS:-60}}
mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | tail -n +2)
if [[ $wanted != all ]]; then
  [[ " ${targets[*]} " == *" $wanted "* ]] || { echo "no target $wanted; there are: ${targets[*]}" >&2; exit 2; }
  targets=("$wanted")
fi
case $budget in
  runs=*) limit="-runs=${budget#runs=}" ;;
  *) limit="-max_total_time=$budget" ;;
esac

export RUSTC_WRAPPER=$PWD/rustc.sh KEYWARD_FUZZ_CRATES="keyward ${targets[*]}"
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
built=()
for target in "${targets[@]}"; do built+=(--bin "$target"); done
# The libraries are those of the product, at its versions; cargo adds the fuzzer's own.
[[ Cargo.lock -nt ../Cargo.lock ]] || { cp ../Cargo.lock Cargo.lock && touch Cargo.lock; }
cargo build --target-dir target "${built[@]}"

for target in "${targets[@]}"; do
  binary=target/debug/$target
  mkdir -p "target/corpus/$target" "artifacts/$target"
  common=(-artifact_prefix="artifacts/$target/" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1)
  echo "== $target: replaying $(find "corpus/$target" -type f | wc -l) seeds"
  "$binary" "${common[@]}" -runs=0 "corpus/$target" >"target/$target.log" 2>&1 || { tail -40 "target/$target.log"; exit 1; }
  [[ $limit == -max_total_time=0 ]] && continue
  echo "== $target: fuzzing, $limit"
  # Documents with signatures are long, and cut short they are none.
  most=4096
  [[ $target == custody ]] && most=16384
  "$binary" "${common[@]}" "$limit" -max_len="$most" "target/corpus/$target" "corpus/$target" >"target/$target.log" 2>&1 ||
    { tail -40 "target/$target.log"; exit 1; }
  grep -E 'DONE|stat::number_of_executed_units|stat::average_exec' "target/$target.log"
done
