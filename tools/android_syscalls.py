#!/usr/bin/env python3
"""Makes glibc's archive fit for programs that run as an Android app: android_syscalls.py libc.a (changed in place).

Android stops an app, and what Termux starts, at system calls outside its list (SIGSYS). Every static program of glibc 2.36
makes two of these at its start and in each thread, with signals blocked, so that no handler can help: set_robust_list, which
cleans up after robust mutexes, and rseq, which makes sched_getcpu() cheap. Nestling uses neither. glibc runs on kernels
that lack them and then hears ENOSYS; here the instruction of the call is replaced by that answer.
"""

import struct
import sys

REFUSED = {"set_robust_list": 99, "rseq": 293}  # numbers on arm64
# Files of the archive that every threaded program has. _Fork.o calls set_robust_list as well.
EXPECTED = {("pthread_create.o", name) for name in REFUSED} | {("dl-tls_init_tp.o", name) for name in REFUSED}

SVC = 0xD4000001          # svc #0
RETURN_ENOSYS = 0x928004A0  # mov x0, #-38
WITHIN = 12               # instructions between the number of a call and the call


def load_number(number):
    return 0xD2800008 | number << 5  # mov x8, #number


def members(archive):
    """(name, offset of the contents, size) of each file of an archive in the format of GNU ar."""
    if archive[:8] != b"!<arch>\n":
        sys.exit("android_syscalls: not an archive")
    names, at = b"", 8
    while at < len(archive):
        name, size = bytes(archive[at:at + 16]).strip(), int(archive[at + 48:at + 58])
        at += 60
        if name == b"//":
            names = bytes(archive[at:at + size])
        elif name[:1] == b"/" and name[1:].isdigit():
            name = names[int(name[1:]):].split(b"/")[0]
        yield name.rstrip(b"/").decode(), at, size
        at += size + size % 2


def replace_calls(archive, start, size, number):
    """Replaces the calls of this number between start and start + size; returns how many."""
    count = 0
    for at in range(start, start + size - 3, 2):  # contents lie at even offsets
        if struct.unpack_from("<I", archive, at)[0] != load_number(number):
            continue
        for call in range(at + 4, min(at + 4 * WITHIN, start + size - 4) + 1, 4):
            if struct.unpack_from("<I", archive, call)[0] == SVC:
                struct.pack_into("<I", archive, call, RETURN_ENOSYS)
                count += 1
                break
    return count


def main():
    path = sys.argv[1]
    with open(path, "rb") as file:
        archive = bytearray(file.read())
    found = set()
    for name, start, size in members(archive):
        for call, number in REFUSED.items():
            if replace_calls(archive, start, size, number):
                found.add((name, call))
    if not EXPECTED <= found:
        sys.exit(f"android_syscalls: {path} lacks the calls {sorted(EXPECTED - found)}: another glibc than 2.36?")
    with open(path, "wb") as file:
        file.write(archive)
    for name, call in sorted(found):
        print(f"{name}: {call} answers ENOSYS")


if __name__ == "__main__":
    main()
