// TLS on a non-blocking file descriptor: OpenSSL used directly, so that an idle connection keeps no record buffers
// (docs/decisions.md). Client and server sides; no loop in here: the owner waits for what a call asks for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"
#include "sim/net/certificates.hpp"

struct ssl_ctx_st;
struct ssl_session_st;
struct ssl_st;

namespace twinstorm::net {

enum class TlsVersion : uint8_t { any, tls12, tls13 };  ///< `any`: 1.2 or 1.3, as the peers agree

struct TlsClientConfig {
  std::string authorities_pem;  ///< trusted CAs; empty = the system's store
  /// How people give them, for the advice about a certificate that is not trusted; a literal.
  const char* authorities_setting = "as caFile in the scenario's target";
  TlsVersion version = TlsVersion::any;
  /// A connection offers the session kept in its `TlsTicket`, and keeps there what the server hands out. Off: every
  /// connection is a full handshake, as with the reference SDK.
  bool session_resumption = false;
};

struct TlsServerConfig {
  CertifiedKey identity;
  bool request_client_certificate = true;  ///< asked for, never demanded; judged later, by what the device says it is
  TlsVersion version = TlsVersion::any;
};

/// What many connections share (SSL_CTX). Immutable after construction; sessions may be made from any thread. Movable.
class TlsContext {
 public:
  /// Errors: `invalid_argument` (authorities are no PEM), `internal` (OpenSSL).
  static Result<TlsContext> client(const TlsClientConfig& config);
  /// Errors: `invalid_argument` (certificate and key do not fit or are no PEM).
  static Result<TlsContext> server(const TlsServerConfig& config);
  ssl_ctx_st* native() const { return context_.get(); }

 private:
  explicit TlsContext(std::shared_ptr<ssl_ctx_st> context) : context_{std::move(context)} {}
  std::shared_ptr<ssl_ctx_st> context_;
};

/// What a call needs before it can go on.
enum class TlsStatus : uint8_t {
  ok,
  want_read,   ///< call again when the descriptor is readable
  want_write,  ///< call again when it is writable
  closed,      ///< the peer ended the connection (close_notify or end of stream)
  failed,      ///< a TLS or socket error: see `TlsSession::error`
};

/// The session that one client (a device) would resume: its own, because a server binds to a session what it learnt
/// about the client. Empty until a server has handed one out. Stays put while a TlsSession refers to it, and may be
/// reused by the next one. One owner, one thread; 8 bytes plus about 1 KB when it holds something.
class TlsTicket {
 public:
  TlsTicket() = default;
  TlsTicket(const TlsTicket&) = delete;
  TlsTicket& operator=(const TlsTicket&) = delete;
  ~TlsTicket() { clear(); }
  explicit operator bool() const { return session_ != nullptr; }
  void clear();

 private:
  friend class TlsSession;
  friend struct TlsTicketAccess;
  ssl_session_st* session_ = nullptr;
};

/// One TLS connection on a connected, non-blocking descriptor that stays its owner's. Not bound to a thread, but used
/// by one at a time. Move-only; 8 bytes.
class TlsSession {
 public:
  TlsSession() = default;
  /// `host_name`: checked against the certificate; sent as SNI unless it is an IP literal. `own`: client certificate or
  /// null, read here and not kept. `ticket`: where a session to resume is kept, or null; outlives this session.
  static Result<TlsSession> client(const TlsContext& context, int descriptor, const std::string& host_name,
                                   const CertifiedKey* own = nullptr, TlsTicket* ticket = nullptr);
  static Result<TlsSession> server(const TlsContext& context, int descriptor);
  TlsSession(TlsSession&& other) noexcept : ssl_{other.ssl_} { other.ssl_ = nullptr; }
  TlsSession& operator=(TlsSession&& other) noexcept;
  ~TlsSession();

  explicit operator bool() const { return ssl_ != nullptr; }
  bool established() const;
  TlsStatus handshake();
  /// Reads decrypted bytes; loop until it wants something: OpenSSL may hold bytes that no readiness will announce.
  TlsStatus read(std::span<char> into, size_t& got);
  /// Writes from the front of `bytes`; `put` may be less than all. After a want, the next call may come with the same
  /// bytes at another address (moving write buffer is allowed).
  TlsStatus write(std::string_view bytes, size_t& put);
  /// Sends close_notify if it can be sent at once; never waits.
  void shutdown();
  /// A sentence for people, naming the verification problem and the fix when there is one; after `failed`.
  std::string error() const;
  /// Bytes are held that no readiness of the descriptor will announce: read on before waiting.
  bool has_pending() const;
  /// After `failed`: errno when a socket call failed, else 0.
  int socket_error() const;
  /// After `failed`: the peer's certificate was not accepted by this side.
  bool untrusted() const;
  bool resumed() const;
  const char* version() const;  ///< `TLSv1.3`
  /// What the peer showed, in this session or in the one that it resumes; nothing when it showed no certificate. Of a
  /// server only the leaf is kept.
  std::optional<PeerCertificate> peer_certificate() const;

 private:
  explicit TlsSession(ssl_st* ssl) : ssl_{ssl} {}
  ssl_st* ssl_ = nullptr;
};

}  // namespace twinstorm::net
