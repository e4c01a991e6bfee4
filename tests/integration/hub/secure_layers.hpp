// TLS and WebSocket for the raw clients, with OpenSSL directly and frames written by hand: none of the fleet's own code
// takes part, so that a mistake which client and hub share cannot hide.
#pragma once

#include <csignal>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>

#include "raw_clients.hpp"

namespace twinstorm::hub::testing {

struct TlsOptions {
  std::string authority_file;
  int version = 0;                        // TLS1_2_VERSION, TLS1_3_VERSION, 0 = any
  const char* server_name = "127.0.0.1";  // what the certificate must be for
  std::string certificate_file;           // of the client, with its key
  std::string key_file;
};

class TlsLayer final : public ByteLayer {
 public:
  /// Null when the handshake fails.
  static std::unique_ptr<TlsLayer> make(int descriptor, const TlsOptions& options) {
    std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
    auto layer = std::make_unique<TlsLayer>();
    layer->context_ = SSL_CTX_new(TLS_client_method());
    if (options.version != 0) {
      SSL_CTX_set_min_proto_version(layer->context_, options.version);
      SSL_CTX_set_max_proto_version(layer->context_, options.version);
    }
    SSL_CTX_set_verify(layer->context_, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_load_verify_file(layer->context_, options.authority_file.c_str());
    if (!options.certificate_file.empty()) {
      EXPECT_EQ(SSL_CTX_use_certificate_chain_file(layer->context_, options.certificate_file.c_str()), 1);
      EXPECT_EQ(SSL_CTX_use_PrivateKey_file(layer->context_, options.key_file.c_str(), SSL_FILETYPE_PEM), 1);
    }
    layer->ssl_ = SSL_new(layer->context_);
    X509_VERIFY_PARAM* const expected = SSL_get0_param(layer->ssl_);
    if (X509_VERIFY_PARAM_set1_ip_asc(expected, options.server_name) != 1) {
      X509_VERIFY_PARAM_set1_host(expected, options.server_name, 0);
      SSL_ctrl(layer->ssl_, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
               const_cast<char*>(options.server_name));
    }
    SSL_clear_mode(layer->ssl_, SSL_MODE_AUTO_RETRY);  // a session ticket alone must not make `read` wait
    SSL_set_fd(layer->ssl_, descriptor);
    if (SSL_connect(layer->ssl_) != 1) return nullptr;
    return layer;
  }
  TlsLayer() = default;
  TlsLayer(const TlsLayer&) = delete;
  TlsLayer& operator=(const TlsLayer&) = delete;
  ~TlsLayer() override {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }

  ssize_t write(std::string_view bytes) override {
    return SSL_write(ssl_, bytes.data(), static_cast<int>(std::min<size_t>(bytes.size(), 1 << 20)));
  }
  ssize_t read(char* into, size_t size) override {
    const int got = SSL_read(ssl_, into, static_cast<int>(size));
    if (got > 0) return got;
    const int why = SSL_get_error(ssl_, got);
    return why == SSL_ERROR_WANT_READ ? -2 : why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
  }
  bool holds_bytes() const override { return SSL_pending(ssl_) > 0; }
  std::string version() const { return SSL_get_version(ssl_); }
  /// SHA-1 of the server's certificate.
  std::string server_fingerprint() const {
    X509* const certificate = SSL_get1_peer_certificate(ssl_);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    X509_digest(certificate, EVP_sha1(), digest, &size);
    X509_free(certificate);
    return {reinterpret_cast<const char*>(digest), size};
  }

 private:
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
};

/// Puts TLS on a connected socket; false when the handshake fails.
inline bool secure(RawSocket& socket, const TlsOptions& options) {
  socket.layer = TlsLayer::make(socket.descriptor(), options);
  return socket.layer != nullptr;
}

/// The client's side of RFC 6455, after the upgrade.
class WebSocketLayer final : public ByteLayer {
 public:
  WebSocketLayer(int descriptor, std::unique_ptr<ByteLayer> below) : fd_{descriptor}, below_{std::move(below)} {}

  ssize_t write(std::string_view bytes) override {
    write_frame(0x82, bytes);
    return static_cast<ssize_t>(bytes.size());
  }
  /// `first`: FIN, reserved bits and opcode.
  void write_frame(unsigned first, std::string_view payload, bool masked = true) {
    std::string out;
    const auto push = [&out](size_t byte) { out.push_back(static_cast<char>(byte & 0xff)); };
    const unsigned mask_bit = masked ? 0x80 : 0;
    push(first);
    if (payload.size() < 126) {
      push(mask_bit | payload.size());
    } else if (payload.size() < 65536) {
      push(mask_bit | 126);
      push(payload.size() >> 8);
      push(payload.size());
    } else {
      push(mask_bit | 127);
      for (int shift = 56; shift >= 0; shift -= 8) push(payload.size() >> shift);
    }
    constexpr std::string_view kMask = "\x5a\x01\xfe\x33";
    if (masked) out += kMask;
    for (size_t i = 0; i < payload.size(); ++i) {
      out.push_back(static_cast<char>(masked ? payload[i] ^ kMask[i % 4] : payload[i]));
    }
    write_raw(out);
  }
  void write_raw(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent =
          below_ != nullptr ? below_->write(bytes) : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  ssize_t read(char* into, size_t size) override {
    if (content_.empty()) {
      const ssize_t got = below_ != nullptr ? below_->read(into, size) : recv(fd_, into, size, 0);
      if (got <= 0) return got;
      raw_.append(into, static_cast<size_t>(got));
      while (take_frame()) {
      }
    }
    if (content_.empty()) return -2;
    const size_t got = content_.copy(into, size);
    content_.erase(0, got);
    return static_cast<ssize_t>(got);
  }
  bool holds_bytes() const override { return !content_.empty() || (below_ != nullptr && below_->holds_bytes()); }

  std::vector<std::string> pongs;
  int close_code = 0;

 private:
  size_t byte(size_t at) const { return static_cast<unsigned char>(raw_[at]); }
  bool take_frame() {
    if (raw_.size() < 2) return false;
    size_t length = byte(1);
    EXPECT_LT(length, 128u) << "a server must not mask";
    const size_t header = length == 126 ? 4 : length == 127 ? 10 : 2;
    if (raw_.size() < header) return false;
    if (header > 2) length = 0;
    for (size_t i = 2; i < header; ++i) length = length << 8 | byte(i);
    if (raw_.size() < header + length) return false;
    const size_t first = byte(0);
    const std::string payload = raw_.substr(header, length);
    raw_.erase(0, header + length);
    constexpr size_t kBinary = 0x82, kPong = 0x8a, kClose = 0x88;
    if (first == kBinary) content_ += payload;
    if (first == kPong) pongs.push_back(payload);
    if (first == kClose) {
      const auto at = [&](size_t i) { return static_cast<unsigned char>(payload[i]); };
      close_code = payload.size() < 2 ? 1005 : at(0) * 256 + at(1);
    }
    return true;
  }

  int fd_;
  std::unique_ptr<ByteLayer> below_;
  std::string raw_;
  std::string content_;  // of binary frames, not read yet
};

inline constexpr std::string_view kUpgradeRequest =
    "GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Sends an upgrade request and reads the head of the answer, which is returned.
inline std::string ask_for_websocket(RawSocket& socket, std::string_view request = kUpgradeRequest) {
  socket.send(request);
  size_t end;
  while ((end = socket.received.find("\r\n\r\n")) == std::string::npos) {
    if (!socket.receive()) return std::exchange(socket.received, {});
  }
  std::string head = socket.received.substr(0, end + 4);
  socket.received.erase(0, end + 4);
  return head;
}

/// Goes over to WebSocket; null when the hub refuses.
inline WebSocketLayer* upgrade(RawSocket& socket, std::string_view request = kUpgradeRequest) {
  if (!ask_for_websocket(socket, request).starts_with("HTTP/1.1 101 ")) return nullptr;
  auto layer = std::make_unique<WebSocketLayer>(socket.descriptor(), std::move(socket.layer));
  WebSocketLayer* const made = layer.get();
  socket.layer = std::move(layer);
  return made;
}

}  // namespace twinstorm::hub::testing
