#!/usr/bin/env bash
# build.sh OUT: builds the static release binary for an image or a release: OUT/sluicegate, and its debug symbols
# apart from it in OUT/sluicegate.debug. TARGET names another target (default: musl for this processor).
#
# Nothing of this machine is in the binary: its paths are replaced, and the revision comes from the commit. SLUICEGATE_REVISION sets it where there is no repository.
set -euo pipefail
out=$(mkdir -p "$1" && realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo_home=${CARGO_HOME:-$HOME/.cargo}
target=${TARGET:-$(uname -m)-unknown-linux-musl}
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
SLUICEGATE_REVISION=${SLUICEGATE_REVISION:-$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)}
export SLUICEGATE_REVISION

if ! rustc --print target-libdir --target "$target" | xargs test -d; then
    rustup target add "$target"
fi
if [[ $target == *-musl ]]; then .ci/need musl; fi
export RUSTFLAGS="--remap-path-prefix=$target_dir=/build/target --remap-path-prefix=$PWD=/build --remap-path-prefix=$cargo_home=/cargo"
# ring and mimalloc are C.
export CFLAGS="-ffile-prefix-map=$target_dir=/build/target -ffile-prefix-map=$PWD=/build -ffile-prefix-map=$cargo_home=/cargo"

cargo build --release --locked --target "$target" --bin sluicegate
built=$target_dir/$target/release/sluicegate
objcopy --only-keep-debug "$built" "$out/sluicegate.debug"
# The binary names the file that has its symbols, which debuggers look for beside it.
(cd "$out" && objcopy --strip-all --add-gnu-debuglink=sluicegate.debug "$built" sluicegate)
