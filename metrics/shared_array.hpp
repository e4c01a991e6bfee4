// Memory that a process shares with those it forks.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include <sys/mman.h>

namespace twinstorm::metrics {

/// `count` default-made elements at the same address in this process and in every process forked from it afterwards:
/// what one of them writes, the others see. Zeroed by the kernel and not resident until touched. Elements end with the
/// owner that made them; a forked process leaves with `_exit`, which ends nothing. Throws `std::bad_alloc`.
template <class T>
class SharedArray {
 public:
  explicit SharedArray(size_t count) : count_{count} {
    if (count == 0) return;
    void* memory =
        mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc{};
    elements_ = static_cast<T*>(memory);
    std::uninitialized_default_construct_n(elements_, count);
  }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;
  ~SharedArray() {
    if (elements_ == nullptr) return;
    std::destroy_n(elements_, count_);
    munmap(elements_, count_ * sizeof(T));
  }

  T& operator[](size_t i) { return elements_[i]; }
  const T& operator[](size_t i) const { return elements_[i]; }

 private:
  T* elements_ = nullptr;
  size_t count_;
};

}  // namespace twinstorm::metrics
