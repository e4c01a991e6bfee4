// Owners for objects of C libraries.
#pragma once

namespace twinstorm::protocol {

/// A deleter that calls a function of the library: `std::unique_ptr<BIO, FreeWith<BIO_free>>`.
template <auto kFree>
struct FreeWith {
  template <class T>
  void operator()(T* object) const {
    kFree(object);
  }
};

}  // namespace twinstorm::protocol
