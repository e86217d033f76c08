// OpenSSL -- TLS of one socket by OpenSSL, either side of it: what ServerTLS and ClientTLS have in common.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "TLS.hpp"

namespace Net::SMTP {

// What OpenSSL counts references of, released by scope: SslContext context(SSL_CTX_new(TLS_method())).
template <auto release>
struct Released {
    template <class T>
    void operator()(T* t) const {
        release(t);
    }
};
using SslContext = std::unique_ptr<SSL_CTX, Released<SSL_CTX_free>>;
using Ssl = std::unique_ptr<SSL, Released<SSL_free>>;
using SslSession = std::unique_ptr<SSL_SESSION, Released<SSL_SESSION_free>>;
using SslCertificate = std::unique_ptr<X509, Released<X509_free>>;
using SslKey = std::unique_ptr<EVP_PKEY, Released<EVP_PKEY_free>>;

// Without control characters: they are '?'.
std::string without_controls(std::string_view text);

// Why OpenSSL's last call in this thread has failed, without control characters; "" when it does not say. The thread's
// queue of errors is empty then.
std::string openssl_problem();

// A context for either role with what holds for both: TLS 1.2 at least, the groups, no compression, no renegotiation,
// buffers only while they are used. It verifies nobody. std::runtime_error.
SslContext make_context();

// The certificates of a PEM file, at least one. std::system_error or std::runtime_error with the file's name.
std::vector<SslCertificate> read_certificates(const std::string& file);

struct SslKeyPair {
    std::vector<SslCertificate> chain{};  // at least one, which is the key's
    SslKey key{};
    std::string file{};  // where the chain is from, for errors
};
// From two PEM files. A key with a passphrase fails. As above; of a key that is not the certificate's, both names.
SslKeyPair read_key_pair(const std::string& certificate_file, const std::string& key_file);
// Shows this chain; one of each type of key may be set. std::runtime_error with the file's name when it may not
// be used: a key too short.
void use_key_pair(SSL_CTX* context, const SslKeyPair& pair);

// What it says of itself. Not `verified`, and without a problem.
Certificate describe(X509* certificate);

enum class Role { server, client };
// The layer for a connected socket. `ssl` is ready for its handshake but for the BIO: name, verification and session
// to resume are set. `keep` lives for as long as the layer: what the context's callbacks look at. The peer's
// certificate is `verified` where SSL_get_verify_result() says so. std::bad_alloc, std::runtime_error.
std::unique_ptr<TLSLayer> make_layer(Ssl ssl, int fd, Role role, std::shared_ptr<const void> keep = {});

}  // namespace Net::SMTP
