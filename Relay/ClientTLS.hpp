// ClientTLS -- how a relay encrypts what it sends, and whom it believes to be its next hop.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../Server/Resolver.hpp"
#include "../Server/TLS.hpp"

namespace Net::SMTP {

// A value: copies share what was read from files. Any number of threads may use it at once.
class ClientTLS {
public:
    enum class Level {
        none,    // in the clear
        may,     // STARTTLS where it is offered, with whomever; where its handshake fails once more without it
        must,    // no mail without TLS; with whomever
        verify,  // and only where the certificate is of an authority that is trusted, and has the host's name (RFC
                 // 6125, RFC 7817); by MX the mail domain is as good as the host's name, and the DNS is taken at its
                 // word for which hosts those are: against who can forge its answers only `dane` helps
        dane,  // where TLSA records, validated by DNSSEC, say which certificate it is (RFC 7672). Of a smart host they
               // must be there; by MX `may` holds for hosts without them, `must` for those that have none we can use
    };
    struct Options {
        // Unset: `verify` where the relay logs in, TLS is implicit, or `ca` or `name` is set; else `may`.
        std::optional<Level> level{};
        bool implicit = false;      // TLS from the start, without STARTTLS (RFC 8314); never without it
        std::string ca{};           // trusted authorities: a file of PEM certificates, or a folder of them by hash.
                                    // Empty: the system's
        std::string certificate{};  // of ours, a PEM file with its chain, if the next hop asks for one; and its key
        std::string key{};
        std::string name{};  // what the certificate must have, and SNI asks for, in place of the host's own name
    };
    // `may`, or `verify` with a login; the system's authorities.
    ClientTLS();
    // The files are read now, and once. std::runtime_error or std::system_error with the name of the one that can't be
    // used; std::invalid_argument for options that contradict each other.
    explicit ClientTLS(Options options);

    // "none", "may", "must", "verify", "dane", "implicit" (verified), "implicit,may", "implicit,verify",
    // "implicit,dane". std::invalid_argument for anything else.
    static Options parse(std::string_view text);

    const Options& options() const;
    Level level(bool with_login) const;

    // Whether a TLSA record can be used for mail: DANE-TA(2) or DANE-EE(3), a selector and a digest that are known,
    // data that makes sense (RFC 7672 3.1).
    static bool usable(const TLSA& record);

    // Whom a connection is to lead to.
    struct Target {
        // An address, or the host's name and what else a certificate may name in its place. SNI asks for the first one.
        std::vector<std::string> names;
        Level level = Level::may;
        // What `dane` goes by, and nothing else. Without one that is usable no certificate verifies.
        std::vector<TLSA> records{};
    };
    // The client's side of TLS for a connected socket, which stays the caller's. With `verify` and `dane` the handshake
    // fails for a certificate that does not verify; with the others TLS::peer tells. std::bad_alloc,
    // std::runtime_error.
    std::unique_ptr<TLSLayer> connect(int fd, const Target& target) const;

    // Whether a connection by one of them is as good as one by the other: copies, and such that read no files.
    bool operator==(const ClientTLS&) const;

private:
    struct State;
    std::shared_ptr<State> state_;
};

// For results and logs: "TLSv1.3 TLS_AES_256_GCM_SHA384, verified", "..., not verified: self-signed certificate".
std::string summary(const TLS& tls);

}  // namespace Net::SMTP
