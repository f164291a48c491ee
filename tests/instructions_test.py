"""Proves by disassembly that instructions beyond the build's baseline occur only in the kernels of their instruction set.

    instructions_test.py LIBRARY.a...

A wide instruction in a function that every processor runs stops the program on those that lack it, and no test on a
machine that has it would notice. Baselines: x86-64-v3 (AVX2, FMA), ARMv8.0. Functions that other files may share (weak
symbols: templates and inline functions) count as everybody's, wherever they were compiled.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

OBJECT = re.compile(r'^(\S+\.o):\s+file format (\S+)')
FUNCTION = re.compile(r'^[0-9a-f]+ <(.+)>:$')
SYMBOL = re.compile(r'^[0-9a-f]+ (.{7}) \S+\s+[0-9a-f]+\s+(?:\.hidden )?(\S+)$')

# Registers and instructions of AVX-512 (with all its 128- and 256-bit forms), AVX-VNNI, AMX, and of Arm's dot products
# and matrix instructions.
BEYOND = {
    'x86': re.compile(r'%zmm|%k[0-7]\b|%[xy]mm(?:1[6-9]|2\d|3[01])\b|\bvpdp|\bvdpbf16|%tmm|\{evex\}'),
    'aarch64': re.compile(r'\t(?:[su]dot|usdot|sudot|bfdot|[su]mmla|usmmla|bfmmla|bfml\w*)\t'),
}
# Object files whose functions may use them, and which. Processors with AVX-VNNI may lack all of AVX-512: only the VEX
# form of the one instruction is allowed there.
KERNELS = {
    'x86': {re.compile(r'^avx512_\w+\.cc\.o$'): BEYOND['x86'],
            re.compile(r'^avxvnni_\w+\.cc\.o$'): re.compile(r'\t\{vex\}\s+vpdpbusd\s+%ymm')},
    'aarch64': {re.compile(r'^(?:neon|i8mm)_\w+\.cc\.o$'): BEYOND['aarch64']},
}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def weak_functions(objdump, library):
    """Names of weak symbols per object file."""
    weak, current = {}, None
    for line in run(objdump, '--syms', library):
        if match := OBJECT.match(line):
            current = weak.setdefault(match.group(1), set())
        elif (match := SYMBOL.match(line)) and match.group(1)[1] == 'w':
            current.add(match.group(2))
    return weak


def check(objdump, library):
    """Returns (functions seen, kernels that use wide instructions as (object, function), offences)."""
    weak = weak_functions(objdump, library)
    functions, allowed, offences = 0, set(), {}
    name = function = family = permitted = None
    for line in run(objdump, '--disassemble', '--no-show-raw-insn', library):
        if match := OBJECT.match(line):
            name, family = match.group(1), 'aarch64' if 'aarch64' in match.group(2) else 'x86'
            permitted = next((form for kernels, form in KERNELS[family].items() if kernels.match(name)), None)
        elif match := FUNCTION.match(line):
            function = match.group(1)
            functions += 1
        elif family and BEYOND[family].search(line):
            if permitted and permitted.search(line) and function not in weak.get(name, ()):
                allowed.add((name, function))
            else:
                offences.setdefault((name, function), line.strip())
    return functions, allowed, offences


def sets_without_kernels(allowed):
    """Families of which some kernels, but not of every set, use wide instructions: that disassembly was misread."""
    return [kernels.pattern for family in KERNELS.values()
            if any(kernels.match(name) for kernels in family for name, _ in allowed)
            for kernels in family if not any(kernels.match(name) for name, _ in allowed)]


def main():
    libraries = [path for path in sys.argv[1:] if pathlib.Path(path).exists()]
    objdump = os.environ.get('OBJDUMP') or shutil.which('objdump') or shutil.which('llvm-objdump')
    if objdump is None or not libraries:
        print('skipped: no objdump, or no library given')
        return 77
    functions, allowed, offences = 0, set(), {}
    for library in libraries:
        seen, kernels, found = check(objdump, library)
        functions += seen
        allowed |= kernels
        offences |= found
    for (name, function), line in sorted(offences.items()):
        print(f'{name}: {function}: {line}')
    print(f'{functions} functions in {len(libraries)} libraries; {len(allowed)} kernels use wide instructions, '
          f'{len(offences)} other functions do')
    missing = sets_without_kernels(allowed)
    for pattern in missing:
        print(f'{pattern}: no kernel uses its wide instructions')
    # A check that finds no kernels at all has read nothing.
    return 1 if offences or missing or not allowed else 0


if __name__ == '__main__':
    sys.exit(main())
