#include "Certificates.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string_view>

#include "../OpenSSL.hpp"

namespace Net::SMTP::Test {

namespace {

using Key = std::unique_ptr<EVP_PKEY, Released<EVP_PKEY_free>>;
using X = std::unique_ptr<X509, Released<X509_free>>;
using File = std::unique_ptr<std::FILE, Released<std::fclose>>;
using Names = std::unique_ptr<GENERAL_NAMES, Released<GENERAL_NAMES_free>>;

struct Issuer {
    X certificate;
    Key key;
};

void must(bool done) {
    if (done) return;
    char text[256];
    ERR_error_string_n(ERR_get_error(), text, sizeof text);
    throw std::runtime_error(std::string("test certificates: ") + text);
}

Key make_key(bool rsa) {
    Key key(rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"));
    must(bool(key));
    return key;
}

File create(const std::string& name, unsigned mode) {
    const int fd = open(name.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, mode);
    File file(fd < 0 ? nullptr : fdopen(fd, "w"));
    if (!file) throw std::runtime_error("test certificates: can't write " + name);
    return file;
}

void write(const std::string& file, const std::vector<const X509*>& chain) {
    const auto out = create(file, 0644);
    for (auto* x : chain) must(PEM_write_X509(out.get(), x));
    must(std::fflush(out.get()) == 0);
}

void extend(X509* x, X509* issuer, int which, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, x, nullptr, nullptr, 0);
    const std::unique_ptr<X509_EXTENSION, Released<X509_EXTENSION_free>> extension(
        X509V3_EXT_conf_nid(nullptr, &context, which, value));
    must(extension && X509_add_ext(x, extension.get(), -1));
}

// "IP:127.0.0.1" -> its type and octets; without a known beginning it is a DNS name.
std::pair<int, std::string> general_name(std::string_view name) {
    const auto begins = [&](std::string_view prefix) {
        const bool so = name.starts_with(prefix);
        if (so) name.remove_prefix(prefix.size());
        return so;
    };
    if (begins("email:")) return {GEN_EMAIL, std::string(name)};
    if (begins("URI:")) return {GEN_URI, std::string(name)};
    if (!begins("IP:")) return {GEN_DNS, std::string(name)};
    const bool v6 = name.find(':') != name.npos;
    std::string octets(v6 ? 16 : 4, '\0');
    if (inet_pton(v6 ? AF_INET6 : AF_INET, std::string(name).c_str(), octets.data()) != 1)
        throw std::runtime_error("test certificates: no address: " + std::string(name));
    return {GEN_IPADD, octets};
}

// By hand, since OpenSSL's own notation has no place for commas and NULs.
void add_names(X509* x, const std::vector<std::string>& names) {
    if (names.empty()) return;
    const Names all(GENERAL_NAMES_new());
    for (const auto& name : names) {
        const auto [type, octets] = general_name(name);
        ASN1_STRING* text = type == GEN_IPADD ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
        must(ASN1_STRING_set(text, octets.data(), int(octets.size())));
        GENERAL_NAME* general = GENERAL_NAME_new();
        GENERAL_NAME_set0_value(general, type, text);
        must(sk_GENERAL_NAME_push(all.get(), general));
    }
    must(X509_add1_ext_i2d(x, NID_subject_alt_name, all.get(), 0, 0));
}

// Signed by the issuer, or by its own key.
X make(const Wanted& wanted, EVP_PKEY* key, const Issuer* issuer, bool authority) {
    X made(X509_new());
    auto* x = made.get();
    auto* by = issuer ? issuer->certificate.get() : x;
    std::uint64_t serial = 0;
    must(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial));
    must(X509_set_version(x, X509_VERSION_3) && ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1));
    must(X509_gmtime_adj(X509_getm_notBefore(x), wanted.from) && X509_gmtime_adj(X509_getm_notAfter(x), wanted.to));
    std::string name = wanted.common_name;
    if (name.empty() && !wanted.names.empty()) name = wanted.names.front().substr(0, 64);  // as long as it may be
    must(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(name.data()), int(name.size()), -1, 0));
    must(X509_set_issuer_name(x, X509_get_subject_name(by)) && X509_set_pubkey(x, key));
    extend(x, by, NID_basic_constraints, authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    extend(x, by, NID_key_usage, authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
    extend(x, by, NID_subject_key_identifier, "hash");
    if (issuer) extend(x, by, NID_authority_key_identifier, "keyid");
    if (!authority) extend(x, by, NID_ext_key_usage, wanted.client ? "clientAuth" : "serverAuth");
    add_names(x, wanted.names);
    must(X509_sign(x, issuer ? issuer->key.get() : key, EVP_sha256()));
    return made;
}

Issuer make_authority(const std::string& name, const Issuer* issuer) {
    Issuer made;
    made.key = make_key(false);
    made.certificate = make({.common_name = name}, made.key.get(), issuer, true);
    return made;
}

std::string new_folder() {
    auto name = (std::filesystem::temp_directory_path() / "certificates-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("test certificates: can't make " + name);
    return name;
}

}  // namespace

struct Certificates::State {
    std::string folder = new_folder();
    Issuer root, between;
    int issued = 0;

    ~State() {
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
    }
};

Certificates::Certificates(const std::string& name) : state_(std::make_unique<State>()) {
    auto& s = *state_;
    s.root = make_authority(name, nullptr);
    s.between = make_authority(name + " Between", &s.root);
    write(file(), {s.root.certificate.get()});
}

Certificates::~Certificates() = default;

std::string Certificates::file() const { return path("ca.pem"); }
std::string Certificates::path(const std::string& name) const { return state_->folder + '/' + name; }

ServerTLS::KeyPair Certificates::issue(const Wanted& wanted) {
    const auto number = std::to_string(++state_->issued);
    KeyPair files{path(number + ".pem"), path(number + ".key")};
    issue(wanted, files);
    return files;
}

void Certificates::issue(const Wanted& wanted, const KeyPair& files) {
    const Key key = make_key(wanted.rsa);
    const auto& signer = wanted.intermediate ? state_->between : state_->root;
    const X certificate = make(wanted, key.get(), wanted.self_signed ? nullptr : &signer, false);
    std::vector<const X509*> chain{certificate.get()};
    if (wanted.intermediate && !wanted.self_signed) chain.push_back(state_->between.certificate.get());
    write(files.certificate, chain);
    const auto out = create(files.key, 0600);
    must(PEM_write_PrivateKey(out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr));
    must(std::fflush(out.get()) == 0);
}

std::shared_ptr<ServerTLS> Certificates::server(const Wanted& wanted) {
    const auto files = issue(wanted);
    return std::make_shared<ServerTLS>(files.certificate, files.key);
}

std::string Certificates::der(const std::string& file, bool key) {
    const File in(std::fopen(file.c_str(), "re"));
    if (!in) throw std::runtime_error("test certificates: can't read " + file);
    const X x(PEM_read_X509(in.get(), nullptr, nullptr, nullptr));
    must(bool(x));
    unsigned char* octets = nullptr;
    const int size = key ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x.get()), &octets) : i2d_X509(x.get(), &octets);
    must(size > 0);
    std::string result(reinterpret_cast<char*>(octets), std::size_t(size));
    OPENSSL_free(octets);
    return result;
}

std::string Certificates::sha256(const std::string& file, bool key) {
    const auto octets = der(file, key);
    unsigned char digest[32];
    must(EVP_Digest(octets.data(), octets.size(), digest, nullptr, EVP_sha256(), nullptr));
    return {reinterpret_cast<char*>(digest), sizeof digest};
}

}  // namespace Net::SMTP::Test
