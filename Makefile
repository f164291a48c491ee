# make run    set up, build, and let the bundled model answer       make test       the tests (under 15 minutes, 2 cores)
# make build  set up and build                                      make test-long  the long tests as well
# make bench  what this machine gives                               make sanitize   tests under address + UB sanitizers
# make aarch64  build/aarch64/nestling: a static program for 64-bit Arm, Android's Termux included
.PHONY: setup build run test test-long bench bench-check sanitize aarch64 clean

NESTLING := build/release/nestling
JOBS := $(shell nproc)

setup:
	@tools/setup.sh

build: setup
	@cmake --preset release > build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
	@cmake --build build/release -j $(JOBS)

run: build
	@tools/demo.sh $(NESTLING)

test: build
	ctest --test-dir build/release --output-on-failure -j $(JOBS) -LE long

test-long: build
	@tools/setup.sh long
	ctest --test-dir build/release --output-on-failure

bench: build
	$(NESTLING) bench -m nano
	$(NESTLING) bench --synthetic e2b

bench-check: build
	$(NESTLING) bench --check

sanitize: setup
	@cmake --preset asan > build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
	@cmake --build build/asan -j $(JOBS)
	ctest --test-dir build/asan --output-on-failure -j $(JOBS) -LE 'long|quality'

aarch64:
	@tools/aarch64.sh

clean:
	rm -rf build
