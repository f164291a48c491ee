// Loops over register tiles: they must be unrolled completely, or the tile lands in memory.
#pragma once

#if defined(__clang__)
#define NESTLING_UNROLL _Pragma("clang loop unroll(full)")
#else
#define NESTLING_UNROLL _Pragma("GCC unroll 32")
#endif
