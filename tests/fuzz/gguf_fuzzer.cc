// libFuzzer entry point: any bytes as a GGUF file must be parsed or refused, without a crash or a large allocation.
#include "memory_file.h"
#include "storage/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const nestling::MemoryFile memory({data, size});
  const auto file = nestling::File::open(memory.path());
  const auto header = nestling::gguf::read_header(file.value());
  if (!header) return 0;
  for (const nestling::gguf::Tensor& tensor : header->tensors) {
    if (tensor.offset + tensor.bytes > size) __builtin_trap();  // what read_header promises
  }
  return 0;
}
