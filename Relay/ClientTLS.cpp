#include "ClientTLS.hpp"

#include <openssl/x509v3.h>

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "../Server/Endpoint.hpp"
#include "../Server/OpenSSL.hpp"

namespace Net::SMTP {

namespace {

using Level = ClientTLS::Level;

constexpr std::pair<std::string_view, Level> levels[]{
    {"none", Level::none}, {"may", Level::may}, {"must", Level::must}, {"verify", Level::verify}, {"dane", Level::dane},
};

[[noreturn]] void failed(const std::string& what) { throw std::runtime_error(what + ": " + openssl_problem()); }

void check(const ClientTLS::Options& o) {
    const auto refuse = [](const char* why) { throw std::invalid_argument(std::string("ClientTLS: ") + why); };
    if (o.certificate.empty() != o.key.empty()) refuse("a certificate needs its key, and a key its certificate");
    if (o.implicit && o.level == Level::none) refuse("implicit TLS without TLS");
    const auto odd = [](unsigned char c) { return c <= 32 || c >= 127; };
    if (std::ranges::any_of(o.name, odd) || o.name.size() > 253 || o.name.starts_with('.'))
        refuse("the name is no host's");
}

void trust(SSL_CTX* context, const std::string& ca) {
    if (ca.empty()) {
        if (SSL_CTX_set_default_verify_paths(context) != 1) failed("the system's authorities");
        return;
    }
    std::error_code error;
    const bool folder = std::filesystem::is_directory(ca, error);
    if (error) throw std::system_error(error, ca);
    if (folder) {
        // Looked into when a certificate is verified: whether it may be is said now.
        std::filesystem::directory_iterator readable(ca, error);
        if (error) throw std::system_error(error, ca);
        if (SSL_CTX_load_verify_dir(context, ca.c_str()) != 1) failed(ca);
        return;
    }
    auto* const store = SSL_CTX_get_cert_store(context);
    for (const auto& certificate : read_certificates(ca))
        if (X509_STORE_add_cert(store, certificate.get()) != 1) failed(ca);
}

bool ascii(const std::string& name) {
    return std::ranges::all_of(name, [](unsigned char c) { return c > 32 && c < 127; });
}

void must(int done) {
    if (done != 1) failed("TLS");
}

// As certificates have names: without the dot behind them. A dot in front would stand for any number of labels.
std::vector<std::string> references(const ClientTLS::Options& o, const ClientTLS::Target& target) {
    auto names = o.name.empty() ? target.names : std::vector<std::string>{o.name};
    for (auto& name : names)
        if (name.ends_with('.')) name.pop_back();
    if (names.empty() || names.front().empty()) throw std::runtime_error("TLS with nobody");
    std::erase_if(names, [](const std::string& name) { return name.empty() || name.front() == '.'; });
    return names;
}

bool address(const std::string& name) { return !address_octets(name).empty(); }

// Whom the certificate must name.
void expect(SSL* ssl, const std::vector<std::string>& names) {
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    auto* const parameters = SSL_get0_param(ssl);
    if (address(names.at(0))) return must(X509_VERIFY_PARAM_set1_ip_asc(parameters, names[0].c_str()));
    for (const auto& name : names)
        if (!address(name)) must(X509_VERIFY_PARAM_add1_host(parameters, name.data(), name.size()));
}

// RFC 7672 3.1: of DANE-EE neither names nor dates are looked at.
void add_records(SSL* ssl, const ClientTLS::Target& target) {
    must(SSL_dane_enable(ssl, nullptr));
    SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    bool any = false;
    for (const auto& r : target.records) {
        if (!ClientTLS::usable(r)) continue;
        any = true;
        const auto* const data = reinterpret_cast<const unsigned char*>(r.data.data());
        if (SSL_dane_tlsa_add(ssl, r.usage, r.selector, r.matching, data, r.data.size()) != 1) failed("TLSA");
    }
    if (!any) throw std::runtime_error("no usable TLSA record");  // OpenSSL would go by authorities then
}

}  // namespace

struct ClientTLS::State {
    explicit State(Options o) : options(std::move(o)) {}

    SSL_CTX* context();
    bool files() const { return !options.ca.empty() || !options.certificate.empty(); }

    const Options options;

private:
    std::mutex mutex_;
    SslContext context_;
};

// Made when it is first needed: most relays that could encrypt are copied often, and many never do.
SSL_CTX* ClientTLS::State::context() {
    const std::lock_guard lock(mutex_);
    if (context_) return context_.get();
    auto made = make_context();
    trust(made.get(), options.ca);
    if (!options.certificate.empty()) use_key_pair(made.get(), read_key_pair(options.certificate, options.key));
    SSL_CTX_set_session_cache_mode(made.get(), SSL_SESS_CACHE_OFF);
    must(SSL_CTX_dane_enable(made.get()));
    context_ = std::move(made);
    return context_.get();
}

ClientTLS::ClientTLS() : state_(std::make_shared<State>(Options())) {}

ClientTLS::ClientTLS(Options options) {
    check(options);
    state_ = std::make_shared<State>(std::move(options));
    if (state_->files()) state_->context();
}

ClientTLS::Options ClientTLS::parse(std::string_view text) {
    const auto refuse = [&] { throw std::invalid_argument("no level of TLS: " + std::string(text)); };
    Options out;
    auto word = text;
    constexpr std::string_view implicit = "implicit";
    if (word.starts_with(implicit)) {
        out.implicit = true;
        word.remove_prefix(implicit.size());
        if (word.empty()) return out;
        if (word.front() != ',') refuse();
        word.remove_prefix(1);
    }
    for (const auto& [name, level] : levels)
        if (word == name && !(out.implicit && (level == Level::none || level == Level::must))) out.level = level;
    if (!out.level) refuse();
    return out;
}

const ClientTLS::Options& ClientTLS::options() const { return state_->options; }

ClientTLS::Level ClientTLS::level(bool with_login) const {
    const auto& o = state_->options;
    const bool careful = o.implicit || with_login || !o.ca.empty() || !o.name.empty();
    return o.level.value_or(careful ? Level::verify : Level::may);
}

bool ClientTLS::usable(const TLSA& r) {
    if ((r.usage != 2 && r.usage != 3) || r.selector > 1) return false;
    if (r.matching == 1) return r.data.size() == 32;
    if (r.matching == 2) return r.data.size() == 64;
    if (r.matching != 0) return false;
    const auto* at = reinterpret_cast<const unsigned char*>(r.data.data());
    const auto* const end = at + r.data.size();
    bool whole = false;
    if (r.selector == 0) {
        const SslCertificate certificate(d2i_X509(nullptr, &at, long(r.data.size())));
        whole = certificate && X509_get0_pubkey(certificate.get());
    } else {
        whole = SslKey(d2i_PUBKEY(nullptr, &at, long(r.data.size()))) != nullptr;
    }
    openssl_problem();
    return whole && at == end;
}

std::unique_ptr<TLSLayer> ClientTLS::connect(int fd, const Target& target) const {
    Ssl ssl(SSL_new(state_->context()));
    if (!ssl) failed("TLS");
    const auto names = references(state_->options, target);
    const bool dane = target.level == Level::dane;
    if (dane) add_records(ssl.get(), target);
    expect(ssl.get(), names);
    // RFC 6066 3: names of hosts only.
    const auto& first = names.front();
    if (ascii(first) && !address(first)) must(int(SSL_set_tlsext_host_name(ssl.get(), first.c_str())));
    if (target.level == Level::may) SSL_set_security_level(ssl.get(), 1);  // better than in the clear
    const bool demanded = dane || target.level == Level::verify;
    SSL_set_verify(ssl.get(), demanded ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    return make_layer(std::move(ssl), fd, Role::client, state_);
}

bool ClientTLS::operator==(const ClientTLS& other) const {
    if (state_ == other.state_) return true;
    const auto &a = options(), &b = other.options();
    return !state_->files() && !other.state_->files() && a.level == b.level && a.implicit == b.implicit &&
           a.name == b.name;
}

std::string summary(const TLS& tls) {
    auto text = tls.version + ' ' + tls.cipher;
    if (!tls.peer) return text + ", not verified: no certificate";
    if (tls.peer->verified) return text + ", verified";
    return text + ", not verified" + (tls.peer->problem.empty() ? "" : ": " + tls.peer->problem);
}

}  // namespace Net::SMTP
