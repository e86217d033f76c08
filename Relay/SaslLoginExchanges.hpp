// SaslLoginExchanges -- the client's side of each mechanism; for our own .cpp files only, it is not installed.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "SaslLogin.hpp"

namespace Net::SMTP {

struct LoginTerms {
    const SaslLogin::Options& options;
    const Channel& channel;
    std::string binding{};    // of SCRAM-SHA-256-PLUS: the type
    bool could_bind = false;  // of SCRAM-SHA-256: the channel could be bound, but the server does not offer it
    std::string nonce{};      // of SCRAM, for its test
};

// Null, with `why`, when there is no token. What it returns keeps nothing of the terms but copies.
std::unique_ptr<LoginExchange> begin_login(std::string_view mechanism, const LoginTerms& terms, std::string& why);

}  // namespace Net::SMTP
