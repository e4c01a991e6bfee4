#include "sim/net/tls.hpp"

#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <sys/socket.h>

#include "sim/net/detail/openssl.hpp"

namespace twinstorm::net {

using detail::take_openssl_error;

struct TlsTicketAccess {
  static ssl_session_st*& session(TlsTicket& ticket) { return ticket.session_; }
};

namespace {

constexpr long kPeerCertificatesMax = 32 * 1024;  // bytes of a peer's chain; a longer one fails the handshake
constexpr int kServerTickets = 1;                 // per TLS 1.3 handshake: enough for a client that comes back once

// --- The descriptor below --------------------------------------------------------------------------------------------

// OpenSSL's own socket BIO writes with `write`, which kills the process with SIGPIPE when the peer is gone.

int descriptor_of(BIO* bio) { return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio))); }

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

int write_to_socket(BIO* bio, const char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  const auto put = ::send(descriptor_of(bio), bytes, static_cast<size_t>(size), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (put < 0 && would_block(errno)) BIO_set_retry_write(bio);
  return static_cast<int>(put);
}

int read_from_socket(BIO* bio, char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  const auto got = ::recv(descriptor_of(bio), bytes, static_cast<size_t>(size), MSG_DONTWAIT);
  if (got < 0 && would_block(errno)) BIO_set_retry_read(bio);
  if (got == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return static_cast<int>(got);
}

long control_socket(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_FLUSH) return 1;
  if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
  return 0;
}

/// One for the program, for its whole life.
BIO_METHOD* socket_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "twinstorm socket");
    BIO_meth_set_write(made, write_to_socket);
    BIO_meth_set_read(made, read_from_socket);
    BIO_meth_set_ctrl(made, control_socket);
    return made;
  }();
  return method;
}

// --- What is attached to an SSL --------------------------------------------------------------------------------------

/// Where a client's ticket goes.
int ticket_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}
/// Why it failed: OpenSSL's packed code, or -errno. Its queue belongs to the thread and is emptied at once.
int failure_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}
/// A text made when a certificate is refused, owned by the SSL.
int advice_index() {
  static const int index = SSL_get_ex_new_index(
      0, nullptr, nullptr, nullptr,
      [](void*, void* text, CRYPTO_EX_DATA*, int, long, void*) { delete static_cast<std::string*>(text); });
  return index;
}
/// Of a context: TlsClientConfig::authorities_setting.
int setting_index() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}
void set_failure(SSL* ssl, int64_t failure) {
  SSL_set_ex_data(ssl, failure_index(), reinterpret_cast<void*>(static_cast<intptr_t>(failure)));
}
int64_t failure_of(const SSL* ssl) { return reinterpret_cast<intptr_t>(SSL_get_ex_data(ssl, failure_index())); }

int keep_session(SSL* ssl, SSL_SESSION* session) {
  auto* const ticket = static_cast<TlsTicket*>(SSL_get_ex_data(ssl, ticket_index()));
  if (ticket == nullptr || SSL_SESSION_is_resumable(session) == 0) return 0;
  SSL_SESSION*& kept = TlsTicketAccess::session(*ticket);
  SSL_SESSION_free(kept);
  kept = session;
  return 1;  // the reference is ours now
}

/// The chain a client showed goes into its ticket, behind the leaf that OpenSSL puts there itself: a resumed session
/// must be judged as the full handshake was. Sealed with the ticket, so the client cannot change it.
int put_chain_into_ticket(SSL* ssl, void*) {
  if (SSL_session_reused(ssl) != 0) return 1;  // a renewed ticket takes over what the first one held
  const STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(ssl);
  std::string der;
  for (int i = 0; i < sk_X509_num(chain); ++i) der += detail::to_der(sk_X509_value(chain, i));
  return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), der.data(), der.size());
}

/// What `put_chain_into_ticket` put there.
std::vector<std::string> chain_of_ticket(SSL* ssl) {
  std::vector<std::string> chain;
  SSL_SESSION* const session = SSL_get0_session(ssl);
  void* data = nullptr;
  size_t size = 0;
  if (session == nullptr || SSL_SESSION_get0_ticket_appdata(session, &data, &size) != 1) return chain;
  const auto* at = static_cast<const unsigned char*>(data);
  for (const unsigned char* const end = at + size; at < end;) {
    const unsigned char* const begin = at;
    const detail::CertificatePointer certificate{d2i_X509(nullptr, &at, static_cast<long>(end - begin))};
    if (certificate == nullptr) break;
    chain.emplace_back(reinterpret_cast<const char*>(begin), static_cast<size_t>(at - begin));
  }
  ERR_clear_error();
  return chain;
}

// --- Contexts --------------------------------------------------------------------------------------------------------

std::shared_ptr<SSL_CTX> make_context(TlsVersion version) {
  std::shared_ptr<SSL_CTX> context{SSL_CTX_new(TLS_method()), SSL_CTX_free};
  if (context == nullptr) return nullptr;
  SSL_CTX_set_min_proto_version(context.get(), version == TlsVersion::tls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
  SSL_CTX_set_max_proto_version(context.get(), version == TlsVersion::tls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // The protocols above know where their messages end, so a connection cut without close_notify is a plain end.
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_max_cert_list(context.get(), kPeerCertificatesMax);
  SSL_CTX_set_read_ahead(context.get(), 1);  // one system call per small record instead of two
  return context;
}

/// Puts certificate, chain and key into `target` (a context or one connection) through the given functions.
template <class Target>
Result<void> use_identity(Target* target, const CertifiedKey& identity, int (*use_certificate)(Target*, X509*),
                          int (*use_key)(Target*, EVP_PKEY*), long (*add_to_chain)(Target*, X509*),
                          int (*check)(const Target*)) {
  const auto certificates = detail::read_certificates(identity.certificate_pem, "the own certificate text");
  if (!certificates) return certificates.error();
  if (certificates->empty()) {
    return make_error(ErrorCode::invalid_argument,
                      "the certificate text holds no certificate: give PEM (-----BEGIN CERTIFICATE-----)");
  }
  const auto key = detail::read_private_key(identity.key_pem);
  if (!key) return key.error();
  if (use_certificate(target, certificates->front().get()) != 1) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("the certificate cannot be used: {}", take_openssl_error()));
  }
  if (use_key(target, key->get()) != 1 || check(target) != 1) {
    ERR_clear_error();
    return make_error(ErrorCode::invalid_argument,
                      "certificate and private key do not belong together: give the key that the certificate was made "
                      "for");
  }
  for (size_t i = 1; i < certificates->size(); ++i) add_to_chain(target, (*certificates)[i].get());
  return {};
}

std::string names_in(X509* certificate) {
  std::string names;
  auto* const alternatives =
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(alternatives); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(alternatives, i);
    std::string text;
    if (name->type == GEN_DNS) {
      text.assign(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                  static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
    } else if (name->type == GEN_IPADD && ASN1_STRING_length(name->d.iPAddress) == 4) {
      const unsigned char* const ip = ASN1_STRING_get0_data(name->d.iPAddress);
      text = fmt::format("{}.{}.{}.{}", ip[0], ip[1], ip[2], ip[3]);
    } else {
      continue;
    }
    names += (names.empty() ? "" : ", ") + text;
  }
  GENERAL_NAMES_free(alternatives);
  return names.empty() ? "no name at all" : names;
}

/// What to do about a certificate that was not accepted. `setting`: TlsClientConfig::authorities_setting.
std::string advice(X509* certificate, int verdict, const char* setting) {
  switch (verdict) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return fmt::format("; give its CA (PEM) {}", setting);
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return "; the CA given is not the one that signed it: give the CA file of this very server";
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID: {
      const auto validity = detail::describe(certificate).validity;
      return fmt::format("; it is valid from {} until {}: renew it, or check this machine's clock",
                         format_iso8601(validity.from), format_iso8601(validity.until));
    }
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return fmt::format("; it is for {}: connect by one of its names, or add the name to the server's certificate",
                         names_in(certificate));
    default:
      return {};
  }
}

/// Keeps the advice: OpenSSL forgets the certificate it refused.
int note_refusal(int accepted, X509_STORE_CTX* store) {
  if (accepted == 1) return 1;
  auto* const ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  delete static_cast<std::string*>(SSL_get_ex_data(ssl, advice_index()));
  const auto* const setting = static_cast<const char*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), setting_index()));
  SSL_set_ex_data(
      ssl, advice_index(),
      new std::string{advice(X509_STORE_CTX_get_current_cert(store), X509_STORE_CTX_get_error(store), setting)});
  return 0;
}

/// OpenSSL's own verification. What it verified with stays with the session for as long as the connection lives, 4 KB
/// for each CA certificate that the server sent; nobody needs them any more.
int verify_and_forget(X509_STORE_CTX* store, void*) {
  const int verdict = X509_verify_cert(store);
  STACK_OF(X509)* const sent = X509_STORE_CTX_get0_untrusted(store);
  while (verdict == 1 && sk_X509_num(sent) > 1) X509_free(sk_X509_pop(sent));
  return verdict;
}

}  // namespace

Result<TlsContext> TlsContext::client(const TlsClientConfig& config) {
  auto context = make_context(config.version);
  if (context == nullptr) {
    return make_error(ErrorCode::internal, fmt::format("cannot make a TLS context: {}", take_openssl_error()));
  }
  if (config.authorities_pem.empty()) {
    SSL_CTX_set_default_verify_paths(context.get());
  } else {
    auto store = detail::make_store(config.authorities_pem);
    if (!store) return store.error();
    SSL_CTX_set_cert_store(context.get(), store->release());
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, note_refusal);
  SSL_CTX_set_ex_data(context.get(), setting_index(), const_cast<char*>(config.authorities_setting));
  SSL_CTX_set_cert_verify_callback(context.get(), verify_and_forget, nullptr);
  if (config.session_resumption) {
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context.get(), keep_session);
  } else {
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  }
  return TlsContext{std::move(context)};
}

Result<TlsContext> TlsContext::server(const TlsServerConfig& config) {
  auto context = make_context(config.version);
  if (context == nullptr) {
    return make_error(ErrorCode::internal, fmt::format("cannot make a TLS context: {}", take_openssl_error()));
  }
  if (auto used = use_identity<SSL_CTX>(
          context.get(), config.identity, SSL_CTX_use_certificate, SSL_CTX_use_PrivateKey,
          [](SSL_CTX* target, X509* certificate) { return SSL_CTX_add1_chain_cert(target, certificate); },
          SSL_CTX_check_private_key);
      !used) {
    return used.error();
  }
  if (config.request_client_certificate) {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    // Who may connect is known only when the device has said who it is: see `verify_chain` and the thumbprints.
    SSL_CTX_set_cert_verify_callback(
        context.get(),
        [](X509_STORE_CTX* store, void*) {
          X509_STORE_CTX_set_error(store, X509_V_OK);
          return 1;
        },
        nullptr);
  }
  // Sessions live in the clients' tickets: no memory here for clients that may never come back.
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context.get(), kServerTickets);
  SSL_CTX_set_session_ticket_cb(context.get(), put_chain_into_ticket, nullptr, nullptr);
  static constexpr unsigned char kSessionContext[] = "twinstorm";
  SSL_CTX_set_session_id_context(context.get(), kSessionContext, sizeof kSessionContext - 1);
  return TlsContext{std::move(context)};
}

void TlsTicket::clear() {
  SSL_SESSION_free(session_);
  session_ = nullptr;
}

namespace {

/// An SSL on the descriptor, or null.
SSL* make_ssl(const TlsContext& context, int descriptor) {
  SSL* const ssl = SSL_new(context.native());
  BIO* const bio = ssl == nullptr ? nullptr : BIO_new(socket_method());
  if (bio == nullptr) {
    SSL_free(ssl);
    return nullptr;
  }
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(descriptor)));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  return ssl;
}

/// SSL_set_tlsext_host_name without its cast.
long set_server_name(SSL* ssl, const std::string& name) {
  return SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, const_cast<char*>(name.c_str()));
}

}  // namespace

Result<TlsSession> TlsSession::client(const TlsContext& context, int descriptor, const std::string& host_name,
                                      const CertifiedKey* own, TlsTicket* ticket) {
  TlsSession session{make_ssl(context, descriptor)};
  if (!session) {
    return make_error(ErrorCode::internal, fmt::format("cannot make a TLS session: {}", take_openssl_error()));
  }
  SSL_set_connect_state(session.ssl_);
  const bool is_ip = detail::is_ip_literal(host_name);
  const int named = is_ip ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session.ssl_), host_name.c_str())
                          : SSL_set1_host(session.ssl_, host_name.c_str());
  if (host_name.empty() || named != 1 || (!is_ip && set_server_name(session.ssl_, host_name) != 1)) {
    ERR_clear_error();
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("\"{}\" is not a name that a server certificate can carry", host_name));
  }
  SSL_set_hostflags(session.ssl_, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (own != nullptr) {
    if (auto used = use_identity<SSL>(
            session.ssl_, *own, SSL_use_certificate, SSL_use_PrivateKey,
            [](SSL* target, X509* certificate) { return SSL_add1_chain_cert(target, certificate); },
            SSL_check_private_key);
        !used) {
      return used.error();
    }
  }
  if (ticket != nullptr && (SSL_CTX_get_session_cache_mode(context.native()) & SSL_SESS_CACHE_CLIENT) != 0) {
    SSL_set_ex_data(session.ssl_, ticket_index(), ticket);
    if (ticket->session_ != nullptr) SSL_set_session(session.ssl_, ticket->session_);
  }
  return session;
}

Result<TlsSession> TlsSession::server(const TlsContext& context, int descriptor) {
  TlsSession session{make_ssl(context, descriptor)};
  if (!session) {
    return make_error(ErrorCode::internal, fmt::format("cannot make a TLS session: {}", take_openssl_error()));
  }
  SSL_set_accept_state(session.ssl_);
  return session;
}

TlsSession& TlsSession::operator=(TlsSession&& other) noexcept {
  std::swap(ssl_, other.ssl_);
  return *this;
}

TlsSession::~TlsSession() {
  if (ssl_ == nullptr) return;
  // An SSL that was not shut down would take its session out of use; what a ticket keeps stays good.
  SSL_set_quiet_shutdown(ssl_, 1);
  SSL_shutdown(ssl_);
  ERR_clear_error();
  SSL_free(ssl_);
}

bool TlsSession::established() const { return ssl_ != nullptr && SSL_is_init_finished(ssl_) != 0; }

namespace {

TlsStatus status_after(SSL* ssl, int result) {
  switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_NONE:
      return TlsStatus::ok;
    case SSL_ERROR_WANT_READ:
      return TlsStatus::want_read;
    case SSL_ERROR_WANT_WRITE:
      return TlsStatus::want_write;
    case SSL_ERROR_ZERO_RETURN:
      return TlsStatus::closed;
    case SSL_ERROR_SYSCALL: {
      const int error = errno;
      ERR_clear_error();
      if (error == 0) return TlsStatus::closed;
      set_failure(ssl, -static_cast<int64_t>(error));
      return TlsStatus::failed;
    }
    default:
      set_failure(ssl, static_cast<int64_t>(ERR_peek_error()));
      ERR_clear_error();
      return TlsStatus::failed;
  }
}

}  // namespace

TlsStatus TlsSession::handshake() {
  ERR_clear_error();
  errno = 0;
  const int result = SSL_do_handshake(ssl_);
  const auto status = status_after(ssl_, result);
  // Neither renegotiation nor later authentication will ask for the own certificate again: an idle client keeps none.
  if (status == TlsStatus::ok && SSL_is_server(ssl_) == 0) SSL_certs_clear(ssl_);
  return status;
}

TlsStatus TlsSession::read(std::span<char> into, size_t& got) {
  got = 0;
  ERR_clear_error();
  errno = 0;
  return status_after(ssl_, SSL_read_ex(ssl_, into.data(), into.size(), &got));
}

TlsStatus TlsSession::write(std::string_view bytes, size_t& put) {
  put = 0;
  if (bytes.empty()) return TlsStatus::ok;
  ERR_clear_error();
  errno = 0;
  return status_after(ssl_, SSL_write_ex(ssl_, bytes.data(), bytes.size(), &put));
}

void TlsSession::shutdown() {
  if (!established()) return;
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

bool TlsSession::has_pending() const { return ssl_ != nullptr && SSL_has_pending(ssl_) != 0; }

int TlsSession::socket_error() const {
  const int64_t failure = ssl_ == nullptr ? 0 : failure_of(ssl_);
  return failure < 0 ? static_cast<int>(-failure) : 0;
}

bool TlsSession::untrusted() const {
  return ssl_ != nullptr && failure_of(ssl_) != 0 && SSL_get_verify_result(ssl_) != X509_V_OK;
}

std::string TlsSession::error() const {
  if (ssl_ == nullptr) return "no TLS session";
  if (const long verdict = SSL_get_verify_result(ssl_); verdict != X509_V_OK) {
    const char* const host = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
    const auto* const text = static_cast<const std::string*>(SSL_get_ex_data(ssl_, advice_index()));
    return fmt::format("the server's certificate{} is not trusted: {}{}",
                       host != nullptr ? fmt::format(" for \"{}\"", host) : "", X509_verify_cert_error_string(verdict),
                       text != nullptr ? *text : "");
  }
  const int64_t failure = failure_of(ssl_);
  const char* const doing = established() ? "TLS connection failed" : "TLS handshake failed";
  if (failure == 0) return fmt::format("{}: the peer closed the connection", doing);
  if (failure < 0) return fmt::format("{}: {}", doing, std::strerror(static_cast<int>(-failure)));
  const auto code = static_cast<unsigned long>(failure);
  const char* const reason = ERR_reason_error_string(code);
  std::string text = fmt::format("{}: {}", doing, reason != nullptr ? reason : "unknown error");
  if (ERR_GET_LIB(code) != ERR_LIB_SSL) return text;
  switch (ERR_GET_REASON(code)) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
      return text + "; the peer's bytes are not TLS: is this a port without TLS?";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
      return text + "; the two sides share no TLS version (1.2 and 1.3 are known here)";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      return text + "; the peer does not accept the certificate that this side showed";
    default:
      return text;
  }
}

bool TlsSession::resumed() const { return ssl_ != nullptr && SSL_session_reused(ssl_) != 0; }

const char* TlsSession::version() const { return ssl_ == nullptr ? "" : SSL_get_version(ssl_); }

std::optional<PeerCertificate> TlsSession::peer_certificate() const {
  X509* const leaf = ssl_ == nullptr ? nullptr : SSL_get0_peer_certificate(ssl_);
  if (leaf == nullptr) return std::nullopt;
  PeerCertificate peer = detail::describe(leaf);
  peer.chain_der.push_back(detail::to_der(leaf));
  // The chain stands on the server's side only, behind the leaf; that of a resumed session is in its ticket.
  const STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(ssl_);
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    X509* const certificate = sk_X509_value(chain, i);
    if (X509_cmp(certificate, leaf) != 0) peer.chain_der.push_back(detail::to_der(certificate));
  }
  if (resumed() && SSL_is_server(ssl_) != 0) {
    for (std::string& certificate : chain_of_ticket(ssl_)) peer.chain_der.push_back(std::move(certificate));
  }
  return peer;
}

}  // namespace twinstorm::net
