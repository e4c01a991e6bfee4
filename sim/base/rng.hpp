// Reproducible randomness: one printed seed, split by purpose and index, so that adding a consumer never shifts another's
// numbers and device 17 draws the same values whatever shard owns it.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

namespace twinstorm {

__extension__ using Wide = unsigned __int128;

/// One step of SplitMix64 (Steele, Lea, Flood 2014): a good mixer, used here to derive seeds.
constexpr uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// FNV-1a, for naming a purpose; also used wherever a stable text hash is needed (never for security).
constexpr uint64_t stable_hash(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
  return hash;
}

/// A 64-bit SplitMix generator: 8 bytes of state, so every device can own one.
class Rng {
 public:
  explicit constexpr Rng(uint64_t state = 0) : state_{state} {}
  /// The stream of `purpose` number `index` under `seed`.
  constexpr Rng(uint64_t seed, std::string_view purpose, uint64_t index = 0)
      : state_{mix64(mix64(seed ^ stable_hash(purpose)) + index * 0x9e3779b97f4a7c15ULL)} {}

  constexpr uint64_t next() {
    const uint64_t out = mix64(state_);
    state_ += 0x9e3779b97f4a7c15ULL;
    return out;
  }
  /// Uniform in [0, 1), 53 random bits.
  constexpr double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  /// Uniform in [low, high).
  constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform in [0, bound); 0 when bound is 0. Multiply-shift, bias below 2^-32 for bounds below 2^32.
  constexpr uint64_t below(uint64_t bound) {
    return static_cast<uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
  }
  constexpr bool chance(double probability) { return uniform() < probability; }
  /// Exponential with mean 1.
  double exponential() { return -std::log1p(-uniform()); }
  /// Standard normal (Box-Muller, one of the pair).
  double normal() {
    const double radius = std::sqrt(2 * exponential());
    return radius * std::cos(6.283185307179586 * uniform());
  }
  constexpr uint64_t state() const { return state_; }

 private:
  uint64_t state_;
};

}  // namespace twinstorm
