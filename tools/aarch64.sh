#!/usr/bin/env bash
# Cross-builds build/aarch64/nestling, one static program for 64-bit Arm: Linux, and Android under Termux. Debian 12.
# Usage: aarch64.sh [TARGET...]      targets of the build; nestling when none is named
#
# Nothing is installed beyond clang and qemu-user-static: Debian's arm64 packages are unpacked into build/aarch64-deps/sysroot, and
# the five libraries that Debian has no archive of are compiled from Debian's sources. Both come through apt, which checks
# their signatures, with its state in build/aarch64-deps/apt.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD deps=$PWD/build/aarch64-deps
sysroot=$deps/sysroot apt_state=$deps/apt
libraries=$sysroot/usr/lib/aarch64-linux-gnu
jobs=${JOBS:-$(nproc)}

packages=(libc6-dev libstdc++-12-dev libgcc-12-dev nlohmann-json3-dev libcli11-dev libkissfft-dev libgtest-dev libgmock-dev
          libfmt-dev libspdlog-dev libsentencepiece-dev libedit-dev libjpeg-dev libpng-dev libwebp-dev libgif-dev
          libsndfile1-dev libmp3lame-dev libsoxr-dev)
sources=(fmtlib sentencepiece libsoxr mpg123 libsndfile)

arm_apt() {
  apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::Etc::sourceparts="$apt_state/sources.d" \
    -o Dir::Etc::sourcelist="$apt_state/sources.list" -o Dir::State="$apt_state" \
    -o Dir::State::status="$apt_state/status" -o Dir::Cache="$apt_state/cache" -o APT::Sandbox::User= "$@"
}

# The machine's own package sources, source packages included.
prepare_apt() {
  mkdir -p "$apt_state"/{sources.d,lists/partial,cache/archives/partial}
  : >"$apt_state/status"
  : >"$apt_state/sources.list"
  [ -f /etc/apt/sources.list ] && sed -n '/^deb /{p;s/^deb /deb-src /p}' /etc/apt/sources.list >"$apt_state/sources.list"
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] && sed 's/^Types:.*/Types: deb deb-src/' "$file" >"$apt_state/sources.d/$(basename "$file")"
  done
  arm_apt update
}

unpack_packages() {
  arm_apt install -y --no-install-recommends --download-only "${packages[@]}"
  for package in "$apt_state"/cache/archives/*.deb; do dpkg-deb -x "$package" "$sysroot"; done
  # A static program: the linker must not find anything else.
  find "$sysroot/lib" "$sysroot/usr/lib" -name 'lib*.so' -delete
  rm -f "$libraries"/cmake/fmt/fmt-targets-none.cmake  # names the shared library
}

unpack_sources() {
  mkdir -p "$deps/src"
  # Some mirrors lack the signatures upstream made, which are not used here: apt has checked the sources themselves.
  (cd "$deps/src" && arm_apt source --download-only "${sources[@]}") || true
  for name in "${sources[@]}"; do
    rm -rf "$deps/src/$name"
    dpkg-source --no-check -x "$deps/src/$name"_*.dsc "$deps/src/$name" >/dev/null
  done
  (cd "$deps/src/sentencepiece" && patch -s -R -p1 <debian/patches/disable-static-library.patch)
}

# library NAME SOURCE TARGET [CMAKE OPTION...]: the archive lib<NAME>.a.
library() {
  local name=$1 source=$2 target=$3
  shift 3
  cmake -S "$deps/src/$source" -B "$deps/build/$name" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$root/cmake/aarch64.cmake" \
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DBUILD_TESTING=OFF "${launcher[@]}" "$@"
  cmake --build "$deps/build/$name" -j "$jobs" --target "$target"
  cp "$(find "$deps/build/$name" -name "lib$name.a")" "$libraries"
}

build_libraries() {
  local launcher=()
  command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  library fmt fmtlib fmt -DFMT_TEST=OFF -DFMT_DOC=OFF \
    -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR=lib/aarch64-linux-gnu
  DESTDIR=$sysroot cmake --install "$deps/build/fmt"
  library sentencepiece sentencepiece sentencepiece-static -DSPM_ENABLE_SHARED=OFF -DSPM_ENABLE_TCMALLOC=OFF
  library soxr libsoxr soxr -DBUILD_TESTS=OFF -DBUILD_EXAMPLES=OFF -DWITH_OPENMP=OFF -DWITH_LSR_BINDINGS=OFF
  library mpg123 mpg123/ports/cmake libmpg123 -DBUILD_PROGRAMS=OFF -DBUILD_LIBOUT123=OFF
  library sndfile libsndfile sndfile -DBUILD_PROGRAMS=OFF -DBUILD_EXAMPLES=OFF -DENABLE_CPACK=OFF
  # It drops codecs that it does not find, and goes on.
  grep -q '#define HAVE_MPEG 1' "$deps/build/sndfile/src/config.h"
  grep -q '#define HAVE_EXTERNAL_XIPH_LIBS 1' "$deps/build/sndfile/src/config.h"
}

make_sysroot() {
  rm -rf "$sysroot"
  mkdir -p "$sysroot"
  prepare_apt
  unpack_packages
  tools/android_syscalls.py "$libraries/libc.a"
  unpack_sources
  build_libraries
}

tools/setup.sh aarch64
if [ ! -f "$deps/complete" ]; then
  mkdir -p "$deps"
  echo "aarch64: unpacking Debian's arm64 packages, building ${sources[*]} (log: build/aarch64-deps/log)" >&2
  trap 'tail -n 20 "$deps/log" >&2' EXIT
  make_sysroot >"$deps/log" 2>&1
  trap - EXIT
  touch "$deps/complete"
fi
cmake --preset aarch64 >build/aarch64-configure.log 2>&1 || { cat build/aarch64-configure.log; exit 1; }
cmake --build build/aarch64 -j "$jobs" --target "${@:-nestling}"
[ $# -gt 0 ] || ls -l build/aarch64/nestling
