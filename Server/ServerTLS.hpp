// ServerTLS -- the server's certificates and what it asks of whoever connects, read from files and read again.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "TLS.hpp"

namespace Net::SMTP {

// For Options::tls. Any number of threads may use it at once; reload() too. Processes forked from one share its ticket
// keys, which change by themselves every 12 hours, or every `resumption` if that is longer, and open tickets for as
// long again.
class ServerTLS : public TLSAcceptor {
public:
    struct KeyPair {
        std::string certificate;  // a PEM file, the server's certificate first and then its chain
        std::string key;          // a PEM file without a passphrase
    };
    enum class ClientCertificate {
        none,      // is not asked for
        optional,  // is asked for; the session goes on whatever comes, client.tls() tells
        required,  // the handshake fails without one that `client_ca` verifies
    };
    enum class Version { tls_1_2, tls_1_3 };
    struct Options {
        // The first one is for clients that name no server, or one we do not have (SNI, RFC 6066 3). Others are chosen
        // by the DNS names in them, wildcards included; of the same names one may have an RSA and one an EC key.
        std::vector<KeyPair> certificates;
        ClientCertificate client_certificate = ClientCertificate::none;
        // PEM file of the authorities whose client certificates are `verified`. Where it changes, sessions of before
        // are not resumed.
        std::string client_ca{};
        Version min_version = Version::tls_1_2;  // RFC 8996
        // For so long a session can be resumed by its ticket; 0: never, and 7 days at most.
        std::chrono::seconds resumption{7200};
    };
    // std::runtime_error or std::system_error with the name of the file that can't be read, or makes no pair;
    // std::invalid_argument when there is none, for `required` without client_ca, and for client_ca with `none`.
    explicit ServerTLS(Options options);
    ServerTLS(const std::string& certificate, const std::string& key);
    ~ServerTLS() override;
    ServerTLS(const ServerTLS&) = delete;
    ServerTLS& operator=(const ServerTLS&) = delete;

    // Reads all files again. New connections use what is there now, running ones go on; tickets of before stay good.
    // Throws as the constructor does; then everything stays as it was.
    void reload();

    std::unique_ptr<TLSLayer> accept(int fd) override;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace Net::SMTP
