#!/usr/bin/env bash
# Installs what the build needs on Debian 12 and its descendants; anywhere else, or without root, says what is missing.
# Usage: setup.sh [long|aarch64]   (also what `make test-long` needs, or `make aarch64`)
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build

packages=(clang-19 libclang-rt-19-dev lld-19 cmake ninja-build pkg-config g++ python3
          libfmt-dev libspdlog-dev nlohmann-json3-dev libcli11-dev libedit-dev libsentencepiece-dev
          libjpeg-dev libpng-dev libwebp-dev libgif-dev libsndfile1-dev libsoxr-dev libkissfft-dev
          libgtest-dev libgmock-dev libsimde-dev)
long_packages=(python3-venv xz-utils)
aarch64_packages=(dpkg-dev patch bzip2 xz-utils qemu-user-static)
case ${1:-} in
  long) packages+=("${long_packages[@]}") ;;
  aarch64) packages+=("${aarch64_packages[@]}") ;;
esac

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is not a Debian system; install the equivalents of: ${packages[*]}" >&2
  command -v clang++-19 >/dev/null && command -v cmake >/dev/null && exit 0
  exit 1
fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "setup: these packages are missing; run: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "setup: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >build/setup.log 2>&1 || { tail -n 5 build/setup.log >&2; exit 1; }
apt-get install -y -qq --no-install-recommends "${missing[@]}" >>build/setup.log 2>&1 || {
  echo "setup: apt-get could not install: ${missing[*]}" >&2
  tail -n 15 build/setup.log >&2
  exit 1
}
