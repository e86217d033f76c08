#include "ServerTLS.hpp"

#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "Address.hpp"
#include "OpenSSL.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto ciphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr auto suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr long largest_client_chain = 32 * 1024;  // octets; and of so many certificates
constexpr int longest_client_chain = 8;
constexpr std::chrono::seconds longest_resumption = 7 * 24h;  // RFC 8446 4.6.1
constexpr std::chrono::seconds ticket_key_life = 12h;

[[noreturn]] void fail(const char* what) { throw std::runtime_error(std::string(what) + ": " + openssl_problem()); }

// What tickets are sealed with: a key for each period, opened for one more. Each follows from the one before, which it
// does not tell: so all processes that were forked agree without a word, and what has gone can't be opened any more.
class TicketKeys {
public:
    struct Key {
        std::array<unsigned char, 16> name;
        std::array<unsigned char, 32> cipher, mac;
    };
    explicit TicketKeys(std::chrono::seconds life)
        : period_(std::max(life, ticket_key_life)), cipher_(EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr)) {
        if (!cipher_ || RAND_bytes(secret_.data(), secret_.size()) != 1) fail("ticket keys");
        keys_[0] = keys_[1] = derived();
        next_ = Clock::now() + period_;
    }

    // SSL_CTX_set_tlsext_ticket_key_evp_cb(3).
    int operator()(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, bool seal) {
        const auto keys = current();
        std::size_t which = 0;
        if (seal) {
            std::copy(keys[0].name.begin(), keys[0].name.end(), name);
            if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(cipher_.get())) != 1) return -1;
        } else {
            while (which < keys.size() && !std::equal(keys[which].name.begin(), keys[which].name.end(), name)) ++which;
            if (which == keys.size()) return 0;
        }
        auto key = keys[which];
        char digest[] = "SHA256";
        const OSSL_PARAM parameters[] = {
            OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.mac.data(), key.mac.size()),
            OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
        if (EVP_CipherInit_ex2(cipher, cipher_.get(), key.cipher.data(), iv, seal, nullptr) != 1 ||
            EVP_MAC_CTX_set_params(mac, parameters) != 1)
            return -1;
        return which == 0 ? 1 : 2;  // the client gets a ticket by the new key
    }

private:
    using Keys = std::array<Key, 2>;

    Keys current() {
        const std::lock_guard lock(mutex_);
        for (const auto now = Clock::now(); next_ <= now; next_ += period_) {
            secret_ = derived("next");
            keys_[1] = std::exchange(keys_[0], derived());
        }
        return keys_;
    }
    std::array<unsigned char, 32> derived(std::string_view purpose) const {
        std::string text(purpose);
        text.append(reinterpret_cast<const char*>(secret_.data()), secret_.size());
        std::array<unsigned char, 32> result{};
        if (EVP_Digest(text.data(), text.size(), result.data(), nullptr, EVP_sha256(), nullptr) != 1)
            throw std::bad_alloc();
        OPENSSL_cleanse(text.data(), text.size());
        return result;
    }
    Key derived() const {
        Key key{{}, derived("cipher"), derived("mac")};
        const auto name = derived("name");
        std::copy_n(name.begin(), key.name.size(), key.name.begin());
        return key;
    }

    const std::chrono::seconds period_;
    const std::unique_ptr<EVP_CIPHER, Released<EVP_CIPHER_free>> cipher_;
    std::mutex mutex_;
    std::array<unsigned char, 32> secret_{};
    Keys keys_;
    Clock::time_point next_;
};

// The DNS names of a certificate, in small letters; where it has none, its subject's common name.
std::vector<std::string> names_of(X509* certificate) {
    std::vector<std::string> names;
    for (const auto& name : describe(certificate).names)
        if (name.starts_with("DNS:")) names.push_back(lower_case(std::string_view(name).substr(4)));
    if (!names.empty()) return names;
    char common[256];
    const int size =
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, common, sizeof common);
    if (size > 0) names.push_back(lower_case({common, std::size_t(size)}));
    return names;
}

// Whom we believe in client certificates.
struct ClientAuthorities {
    explicit ClientAuthorities(const ServerTLS::Options& options);

    std::unique_ptr<X509_STORE, Released<X509_STORE_free>> store;
    std::vector<SslCertificate> certificates;
    // Of the above: a session that was begun under others is not resumed (SSL_CTX_set_session_id_context(3)).
    std::array<unsigned char, 32> digest{};
};

ClientAuthorities::ClientAuthorities(const ServerTLS::Options& options) : store(X509_STORE_new()) {
    if (!store) throw std::bad_alloc();
    // An authority between may be believed by itself.
    X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
    if (!options.client_ca.empty()) certificates = read_certificates(options.client_ca);
    std::string all(1, char('0' + int(options.client_certificate)));
    for (const auto& x : certificates) {
        unsigned char* der = nullptr;
        const int size = i2d_X509(x.get(), &der);
        if (size <= 0 || X509_STORE_add_cert(store.get(), x.get()) != 1) fail(options.client_ca.c_str());
        all.append(reinterpret_cast<char*>(der), std::size_t(size));
        OPENSSL_free(der);
    }
    if (EVP_Digest(all.data(), all.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
}

// What is read from the files at once, and never changed: a context for each set of certificates that have a name in
// common, and all of the names.
class Contexts {
public:
    Contexts(const ServerTLS::Options& options, std::shared_ptr<TicketKeys> tickets);
    Contexts(const Contexts&) = delete;
    Contexts& operator=(const Contexts&) = delete;

    SSL_CTX* any() const { return any_; }

private:
    using Pairs = std::vector<const SslKeyPair*>;

    SSL_CTX* context(const Pairs& pairs);
    void configure(SSL_CTX* context) const;
    SSL_CTX* find(std::string_view name) const;

    static int on_server_name(SSL* ssl, int* alert, void* contexts);
    static int on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX*, EVP_MAC_CTX*, int seal);
    static int on_client_certificate(X509_STORE_CTX* chain, void* contexts);

    const ServerTLS::Options options_;
    const std::shared_ptr<TicketKeys> tickets_;
    const ClientAuthorities authorities_;
    std::vector<SslKeyPair> pairs_;
    std::map<Pairs, SslContext> contexts_;
    std::map<std::string, SSL_CTX*, std::less<>> names_;
    SSL_CTX* any_ = nullptr;
};

Contexts::Contexts(const ServerTLS::Options& options, std::shared_ptr<TicketKeys> tickets)
    : options_(options), tickets_(std::move(tickets)), authorities_(options) {
    for (const auto& files : options_.certificates) pairs_.push_back(read_key_pair(files.certificate, files.key));
    // Of each name the first certificate of each kind.
    std::map<std::string, Pairs> by_name;
    Pairs of_first{&pairs_.front()};
    for (const auto& pair : pairs_) {
        auto add = [&](Pairs& to) {
            const int kind = EVP_PKEY_get_base_id(pair.key.get());
            if (std::ranges::none_of(to, [&](auto* p) { return EVP_PKEY_get_base_id(p->key.get()) == kind; }))
                to.push_back(&pair);
        };
        for (const auto& name : names_of(pair.chain.front().get())) {
            auto& same = by_name[name];
            add(same);
            if (same.front() == &pairs_.front()) add(of_first);
        }
    }
    any_ = context(of_first);
    for (const auto& [name, same] : by_name) names_[name] = context(same);
}

SSL_CTX* Contexts::context(const Pairs& pairs) {
    auto& made = contexts_[pairs];
    if (made) return made.get();
    made = make_context();
    configure(made.get());
    for (const auto* pair : pairs) use_key_pair(made.get(), *pair);
    return made.get();
}

void Contexts::configure(SSL_CTX* c) const {
    using Certificate = ServerTLS::ClientCertificate;
    const bool newest = options_.min_version == ServerTLS::Version::tls_1_3;
    if (!SSL_CTX_set_cipher_list(c, ciphers) || !SSL_CTX_set_ciphersuites(c, suites) ||
        !SSL_CTX_set_min_proto_version(c, newest ? TLS1_3_VERSION : TLS1_2_VERSION) ||
        !SSL_CTX_set_session_id_context(c, authorities_.digest.data(), unsigned(authorities_.digest.size())))
        fail("TLS");
    SSL_CTX_set_options(c, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(c, SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_tlsext_servername_callback(c, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(c, const_cast<Contexts*>(this));

    const auto life = std::clamp(options_.resumption, 0s, longest_resumption);
    SSL_CTX_set_timeout(c, long(life.count()));
    SSL_CTX_set_num_tickets(c, life > 0s ? 1 : 0);
    if (life == 0s) SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
    SSL_CTX_set_app_data(c, tickets_.get());
    SSL_CTX_set_tlsext_ticket_key_evp_cb(c, on_ticket);

    if (options_.client_certificate == Certificate::none) return;
    const bool required = options_.client_certificate == Certificate::required;
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
    SSL_CTX_set_verify_depth(c, longest_client_chain);
    SSL_CTX_set_max_cert_list(c, largest_client_chain);
    SSL_CTX_set1_cert_store(c, authorities_.store.get());
    for (const auto& x : authorities_.certificates)
        if (SSL_CTX_add_client_CA(c, x.get()) != 1) fail(options_.client_ca.c_str());
    if (!required) SSL_CTX_set_cert_verify_callback(c, on_client_certificate, nullptr);
}

SSL_CTX* Contexts::find(std::string_view name) const {
    if (const auto exact = names_.find(name); exact != names_.end()) return exact->second;
    const auto dot = name.find('.');
    if (dot == name.npos) return any_;
    const auto wild = names_.find('*' + std::string(name.substr(dot)));
    return wild != names_.end() ? wild->second : any_;
}

// Whatever the name, the session goes on; the client will see which certificate it gets.
int Contexts::on_server_name(SSL* ssl, int*, void* contexts) {
    const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!name) return SSL_TLSEXT_ERR_OK;
    try {
        SSL_CTX* const chosen = static_cast<Contexts*>(contexts)->find(lower_case(name));
        if (chosen != SSL_get_SSL_CTX(ssl) && !SSL_set_SSL_CTX(ssl, chosen)) return SSL_TLSEXT_ERR_ALERT_FATAL;
    } catch (const std::bad_alloc&) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return SSL_TLSEXT_ERR_OK;
}

int Contexts::on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                        int seal) {
    try {
        auto& keys = *static_cast<TicketKeys*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
        const int result = keys(name, iv, cipher, mac, seal);
        // RFC 8446 C.4: in TLS 1.3 a ticket is used once, so whoever has used one needs another.
        return result == 1 && !seal && SSL_version(ssl) >= TLS1_3_VERSION ? 2 : result;
    } catch (const std::exception&) {
        return -1;
    }
}

// Where none is required: what is wrong is remembered, and the session goes on.
int Contexts::on_client_certificate(X509_STORE_CTX* chain, void*) {
    X509_verify_cert(chain);
    return 1;
}

}  // namespace

struct ServerTLS::State {
    explicit State(Options o) : options(std::move(o)), tickets(std::make_shared<TicketKeys>(options.resumption)) {}

    std::shared_ptr<const Contexts> current() {
        const std::lock_guard lock(mutex);
        return contexts;
    }

    const Options options;
    const std::shared_ptr<TicketKeys> tickets;
    std::mutex mutex;
    std::shared_ptr<const Contexts> contexts;
};

ServerTLS::ServerTLS(Options options) {
    if (options.certificates.empty()) throw std::invalid_argument("ServerTLS: no certificate");
    if (options.client_certificate == ClientCertificate::required && options.client_ca.empty())
        throw std::invalid_argument("ServerTLS: client certificates are required, and no authority is believed");
    if (options.client_certificate == ClientCertificate::none && !options.client_ca.empty())
        throw std::invalid_argument("ServerTLS: an authority for client certificates, which are not asked for");
    state_ = std::make_unique<State>(std::move(options));
    reload();
}

ServerTLS::ServerTLS(const std::string& certificate, const std::string& key)
    : ServerTLS(Options{.certificates = {{certificate, key}}}) {}

ServerTLS::~ServerTLS() = default;

void ServerTLS::reload() {
    auto fresh = std::make_shared<const Contexts>(state_->options, state_->tickets);
    const std::lock_guard lock(state_->mutex);
    state_->contexts.swap(fresh);
}

std::unique_ptr<TLSLayer> ServerTLS::accept(int fd) {
    auto contexts = state_->current();
    Ssl ssl(SSL_new(contexts->any()));
    if (!ssl) fail("TLS");
    return make_layer(std::move(ssl), fd, Role::server, std::move(contexts));
}

}  // namespace Net::SMTP
