#!/usr/bin/env bash
# Builds the browser's module into web/pkg, from which `la-cli export` takes it.
#
#   web/build.sh            # needs Rust; installs the target, or Debian's compiler, and wasm-bindgen where they are missing
#   web/build.sh --check    # builds into target/ and fails where web/pkg is not what the source builds
#
# Two modules share the glue: one with simd128, which every browser of today runs, and one that also uses relaxed SIMD.
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
out=web/pkg
[ "${1:-}" != --check ] || out=target/web-pkg

stop() { printf 'web/build.sh: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

has_target() {
    local libraries
    libraries="$(rustc --print sysroot)/lib/rustlib/$target/lib"
    [ -d "$libraries" ] || { have rustup && timeout 120 rustup target add $target >/dev/null 2>&1 && [ -d "$libraries" ]; }
}

# cargo with rustup's target, or with Debian's compiler, which builds the standard library from source.
compile() {
    local flags="--cfg getrandom_backend=\"wasm_js\" -C target-feature=$1 --remap-path-prefix=$PWD=la --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    shift
    if has_target; then
        RUSTFLAGS="$flags --remap-path-prefix=$(rustc --print sysroot)=rust" cargo build -q --profile wasm -p la-wasm --target $target --locked "$@"
    else
        dpkg -s rustc-web cargo-web rust-web-src >/dev/null 2>&1 ||
            stop "needs \`rustup target add $target\`, or Debian's packages rustc-web, cargo-web and rust-web-src"
        PATH="$(rustc --print target-libdir)/../bin:$PATH" have rust-lld || stop "needs rust-lld, which Debian's package lld or rustup's toolchain has"
        PATH="$(rustc --print target-libdir)/../bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
            RUSTFLAGS="$flags --remap-path-prefix=/usr=rust -C linker=rust-lld" /usr/bin/cargo build -q --profile wasm -p la-wasm --target $target --locked -Zbuild-std=std,panic_abort "$@"
    fi
}

compiler() {
    if has_target; then rustc --version; else /usr/bin/rustc --version; fi
}

# The glue's generator must have the version of the crate.
bindgen() {
    local version tools=target/wasm-tools
    version=$(sed -n 's/^wasm-bindgen = "=\(.*\)"$/\1/p' Cargo.toml)
    if have wasm-bindgen && [ "$(wasm-bindgen --version)" = "wasm-bindgen $version" ]; then
        wasm-bindgen "$@"
        return
    fi
    [ -x $tools/bin/wasm-bindgen ] || cargo install -q wasm-bindgen-cli --version "$version" --root $tools
    $tools/bin/wasm-bindgen "$@"
}

module() {
    compile "$2" --target-dir "target/wasm-$1"
    bindgen --target web --no-typescript --remove-name-section --remove-producers-section --out-dir "target/wasm-$1/pkg" --out-name la_wasm \
        "target/wasm-$1/$target/wasm/la_wasm.wasm"
}

# What the module is made of: a change here asks for a new build.
sources() {
    cat Cargo.toml Cargo.lock la-core/Cargo.toml la-wasm/Cargo.toml web/build.sh $(find la-core/src la-wasm/src -name '*.rs' | LC_ALL=C sort) | sha256sum | cut -d' ' -f1
}

module simd +simd128
module relaxed +simd128,+relaxed-simd
mkdir -p $out
cp target/wasm-simd/pkg/la_wasm.js target/wasm-simd/pkg/la_wasm_bg.wasm $out/
cp target/wasm-relaxed/pkg/la_wasm_bg.wasm $out/la_wasm_relaxed_bg.wasm
cmp -s target/wasm-simd/pkg/la_wasm.js target/wasm-relaxed/pkg/la_wasm.js || stop "the two modules need different glue"
printf 'sources %s\ncompiler %s\n' "$(sources)" "$(compiler)" > $out/BUILD

if [ "$out" != web/pkg ]; then
    [ "$(sed -n 's/^sources //p' web/pkg/BUILD)" = "$(sources)" ] || stop "web/pkg was built from other sources: run web/build.sh and commit what it wrote"
    if cmp -s $out/BUILD web/pkg/BUILD; then
        for file in la_wasm.js la_wasm_bg.wasm la_wasm_relaxed_bg.wasm; do
            cmp "$out/$file" "web/pkg/$file" || stop "web/pkg/$file is not what the source builds: run web/build.sh"
        done
        echo "web/pkg is what the source builds, byte for byte"
    else
        echo "web/pkg was built from these sources by $(sed -n 's/^compiler //p' web/pkg/BUILD); this is $(compiler), which built it too"
    fi
fi
