// Memory for tensors: page-backed, zeroed, 64-byte aligned (a cache line and the widest vector register).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace nestling {

// Anonymous memory from mmap: pages become resident when first touched, so reserving is cheap.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(uint64_t bytes);
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  // Gives all pages back; the memory stays reserved and reads as zero.
  void release_pages();

 private:
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

// A fixed-size array of trivial T in an AlignedBuffer.
template <typename T>
class AlignedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedArray() = default;
  explicit AlignedArray(uint64_t count) : buffer_(count * sizeof(T)), count_(count) {}
  T* data() { return reinterpret_cast<T*>(buffer_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(buffer_.data()); }
  uint64_t size() const { return count_; }
  T& operator[](uint64_t i) { return data()[i]; }
  const T& operator[](uint64_t i) const { return data()[i]; }
  std::span<T> span() { return {data(), static_cast<size_t>(count_)}; }
  std::span<const T> span() const { return {data(), static_cast<size_t>(count_)}; }

 private:
  AlignedBuffer buffer_;
  uint64_t count_ = 0;
};

}  // namespace nestling
