#!/usr/bin/env bash
# Builds the browser's module into web/pkg, from which `la-cli export` takes it.
#
#   web/build.sh            # needs Rust; installs the target, or Debian's compiler, and wasm-bindgen where they are missing
#   web/build.sh --check    # builds into target/ and fails where web/pkg is not what the source builds
#
# Two modules share the glue: one with simd128, which every browser of today runs, and one that also uses relaxed SIMD.
# A third, with glue of its own, uses relaxed SIMD and shares its memory between threads, where a page may do that. Its standard
# library is built from source too: by rustup's toolchain with the component rust-src, else by Debian's compiler.
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

# Whether rustup's toolchain has, or can be given, the source of its standard library.
has_source() {
    local source
    source="$(rustc --print sysroot)/lib/rustlib/src/rust/library/std"
    [ -d "$source" ] || { have rustup && timeout 120 rustup component add rust-src >/dev/null 2>&1 && [ -d "$source" ]; }
}

# The standard library's paths: rustc writes its own name for them where rust-src is missing, and those of the disk where it is not.
sysroot_names() {
    local sysroot
    sysroot=$(rustc --print sysroot)
    echo "--remap-path-prefix=$sysroot=rust --remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"
}

# cargo with rustup's target, or with Debian's compiler, which builds the standard library from source; for threads, from source.
compile() {
    local features=$1 flags
    flags="--cfg getrandom_backend=\"wasm_js\" -C target-feature=$features --remap-path-prefix=$PWD=la --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    shift
    case $features in
    *+atomics*) flags="$flags $(printf -- ' -C link-arg=%s' "${shared_memory[@]}")" ;;
    esac
    if has_target && [[ $features != *+atomics* ]]; then
        RUSTFLAGS="$flags $(sysroot_names)" cargo build -q --profile wasm -p la-wasm --target $target --locked "$@"
    elif has_target && has_source; then
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags $(sysroot_names)" \
            cargo build -q --profile wasm -p la-wasm --target $target --locked -Zbuild-std=std,panic_abort "$@"
    else
        dpkg -s rustc-web cargo-web rust-web-src >/dev/null 2>&1 ||
            stop "needs \`rustup target add $target\` and \`rustup component add rust-src\`, or Debian's packages rustc-web, cargo-web and rust-web-src"
        PATH="$(rustc --print target-libdir)/../bin:$PATH" have rust-lld || stop "needs rust-lld, which Debian's package lld or rustup's toolchain has"
        PATH="$(rustc --print target-libdir)/../bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
            RUSTFLAGS="$flags --remap-path-prefix=/usr=rust -C linker=rust-lld" /usr/bin/cargo build -q --profile wasm -p la-wasm --target $target --locked -Zbuild-std=std,panic_abort "$@"
    fi
}

# What the linker needs for a memory that threads share, and what wasm-bindgen needs to start them.
shared_memory=(--shared-memory --import-memory --max-memory=4294967296
    --export=__wasm_init_tls --export=__tls_size --export=__tls_align --export=__tls_base)

compiler() {
    if has_target; then rustc --version; else /usr/bin/rustc --version; fi
}

threads_compiler() {
    if has_target && has_source; then rustc --version; else /usr/bin/rustc --version; fi
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
    bindgen --target web --no-typescript --remove-name-section --remove-producers-section --out-dir "target/wasm-$1/pkg" --out-name "$3" \
        "target/wasm-$1/$target/wasm/la_wasm.wasm"
}

# What the module is made of: a change here asks for a new build.
sources() {
    cat Cargo.toml Cargo.lock la-core/Cargo.toml la-wasm/Cargo.toml web/build.sh $(find la-core/src la-wasm/src -name '*.rs' | LC_ALL=C sort) | sha256sum | cut -d' ' -f1
}

module simd +simd128 la_wasm
module relaxed +simd128,+relaxed-simd la_wasm
module threads +simd128,+relaxed-simd,+atomics,+bulk-memory la_wasm_threads
mkdir -p $out
cp target/wasm-simd/pkg/la_wasm.js target/wasm-simd/pkg/la_wasm_bg.wasm $out/
cp target/wasm-relaxed/pkg/la_wasm_bg.wasm $out/la_wasm_relaxed_bg.wasm
cmp -s target/wasm-simd/pkg/la_wasm.js target/wasm-relaxed/pkg/la_wasm.js || stop "the two modules need different glue"
cp target/wasm-threads/pkg/la_wasm_threads.js target/wasm-threads/pkg/la_wasm_threads_bg.wasm $out/
printf 'sources %s\ncompiler %s\nthreads-compiler %s\n' "$(sources)" "$(compiler)" "$(threads_compiler)" > $out/BUILD

# Fails where a file that the compiler of web/pkg has built here differs from it.
compare() {
    local compiler=$1
    shift
    if [ "$(grep "^$compiler " $out/BUILD)" != "$(grep "^$compiler " web/pkg/BUILD)" ]; then
        echo "$* in web/pkg: built from these sources by another compiler ($(sed -n "s/^$compiler //p" web/pkg/BUILD)); this one ($(sed -n "s/^$compiler //p" $out/BUILD)) built them too"
        return
    fi
    for file in "$@"; do
        cmp "$out/$file" "web/pkg/$file" || stop "web/pkg/$file is not what the source builds: run web/build.sh"
    done
    echo "$* in web/pkg: what the source builds, byte for byte"
}

if [ "$out" != web/pkg ]; then
    [ "$(sed -n 's/^sources //p' web/pkg/BUILD)" = "$(sources)" ] || stop "web/pkg was built from other sources: run web/build.sh and commit what it wrote"
    compare compiler la_wasm.js la_wasm_bg.wasm la_wasm_relaxed_bg.wasm
    compare threads-compiler la_wasm_threads.js la_wasm_threads_bg.wasm
fi
