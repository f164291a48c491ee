// libFuzzer entry point: any bytes as a safetensors file must be parsed or refused; what is accepted must be readable.
#include <algorithm>

#include "memory_file.h"
#include "storage/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const nestling::MemoryFile memory({data, size});
  const auto file = nestling::SafetensorsFile::open(memory.path());
  if (!file) return 0;
  for (const auto& [name, entry] : file->entries()) {
    if (entry.offset + entry.bytes > size) __builtin_trap();
    // Types that cannot be converted are refused by both; the others must be there in full.
    std::vector<float> values(static_cast<size_t>(std::min<int64_t>(entry.elements(), 1000)));
    (void)file->read_floats(entry, entry.elements() - static_cast<int64_t>(values.size()), values);
    (void)file->read_integers(entry);
  }
  return 0;
}
