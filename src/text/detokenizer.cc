#include "text/detokenizer.h"

namespace nestling {

std::string Detokenizer::feed(int32_t id) {
  std::string bytes, out;
  tokenizer_->append_bytes(id, controls_, bytes);
  decoder_.feed(bytes, out);
  return out;
}

std::string Detokenizer::flush() {
  std::string out;
  decoder_.flush(out);
  return out;
}

}  // namespace nestling
