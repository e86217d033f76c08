// SaslLogin -- a relay's user and password or token, and the strongest of the ready mechanisms to prove them by.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "Login.hpp"

namespace Net::SMTP {

// Chooses of what the server offers, in this order: SCRAM-SHA-256-PLUS (with channel binding, RFC 5929, RFC 9266),
// SCRAM-SHA-256, CRAM-MD5, OAUTHBEARER, XOAUTH2, PLAIN, LOGIN. The last four show the secret in clear text; EXTERNAL
// (the certificate of ClientTLS) is used where `mechanisms` names it, and then first.
// A SCRAM server must prove that it knows the password too. It may ask for 4096 to 1,000,000 iterations (half a
// second), no challenge may be longer than 12,288 octets, and none may hold a NUL. A server that seems to have lost its
// -PLUS on the way hears of it (RFC 5802 6).
class SaslLogin : public Login {
public:
    struct Options {
        std::string user{};      // "" only with EXTERNAL alone
        std::string password{};  // empty: only tokens, and EXTERNAL
        // Gives the bearer token (RFC 6750) of the moment; it is asked for each OAUTHBEARER and XOAUTH2, by the thread
        // that delivers. What it throws, or an empty token, is a login that fails for now. With a token no password
        // mechanism is used unless there is a password too.
        std::function<std::string()> token{};
        std::string acts_as{};                  // the authorization identity, if it is another than the user
        std::vector<std::string> mechanisms{};  // only these, by name; empty: all but EXTERNAL
        std::vector<std::string> clear_text{};  // those of the clear-text ones that may be used without verified TLS
    };
    // std::invalid_argument for options that can't log in: no user, no secret, a name or secret that SASLprep (RFC
    // 4013) prohibits, an unknown mechanism.
    explicit SaslLogin(Options options);
    SaslLogin(std::string user, std::string password);

    std::unique_ptr<LoginExchange> begin(const std::vector<std::string>& offered, const Channel&,
                                         std::string& why) const override;
    std::string user() const override { return options_.user; }

private:
    Options options_;
};

}  // namespace Net::SMTP
