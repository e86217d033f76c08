// Certificates -- an authority for tests, and certificates of it for any name, good and bad.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../ServerTLS.hpp"

namespace Net::SMTP::Test {

// What a certificate is to say.
struct Wanted {
    std::vector<std::string> names{};        // "mx.test", "*.mx.test", "IP:127.0.0.1", "email:a@b.test", "URI:..."
    std::string common_name{};               // empty: the first of the names
    bool rsa = false;                        // a key of 2048 bits; else P-256
    bool client = false;                     // for TLS clients; else for servers
    bool self_signed = false;                // by its own key, not by the authority's
    bool intermediate = false;               // by an authority between; its certificate is in the file too
    long from = -3600, to = 30 * 24 * 3600;  // seconds from now: when it is valid
};

// An authority and what it has issued, as PEM files in a folder that goes away with it. Two of them do not trust each
// other. One thread at a time. std::runtime_error when OpenSSL or the system refuses.
//
//     Test::Certificates authority;
//     Test::MailServer server({.tls = authority.server()});   // listens on "tls:..." for TLS from the start
//     // a client that believes authority.file() gets through STARTTLS and finds the name right
class Certificates {
public:
    using KeyPair = ServerTLS::KeyPair;

    explicit Certificates(const std::string& name = "Test Authority");
    ~Certificates();
    Certificates(const Certificates&) = delete;
    Certificates& operator=(const Certificates&) = delete;

    // The authority's own certificate, for those who are to believe it.
    std::string file() const;
    // A name in the folder.
    std::string path(const std::string& name) const;

    // Two new files, the key's readable by its owner only.
    KeyPair issue(const Wanted& wanted);
    // The same into files of these names, as a renewal does.
    void issue(const Wanted& wanted, const KeyPair& files);

    // A server that shows a new certificate, for Options::tls. It may live longer than the authority, but not reload().
    std::shared_ptr<ServerTLS> server(const Wanted& wanted = {
                                          .names = {"mail.test", "localhost", "IP:127.0.0.1", "IP:::1"}});

    // The first certificate of a file in DER; with `key` its public key alone (SubjectPublicKeyInfo): TLSA's selectors
    // 0 and 1, matching type 0. And the SHA-256 of it, 32 octets: matching type 1.
    static std::string der(const std::string& file, bool key = false);
    static std::string sha256(const std::string& file, bool key = false);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace Net::SMTP::Test
