// Users -- accounts for a test: who may authenticate, by PLAIN and LOGIN, with which password.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../Auth.hpp"

namespace Net::SMTP::Test {

// For Options::auth. Names and passwords are compared octet by octet; a name to act as (RFC 4616) is refused unless it
// is the user's own. For other mechanisms there is Sasl. A failure is answered when Options::auth_delay is over, and in
// the clear AUTH is offered only as Options::clear_auth says. Any number of threads may ask at once.
//
//     Test::MailServer server({.auth = Test::users({{"joe", "secret"}}),
//                              .clear_auth = ClearAuth::loopback,
//                              .require_auth = true,
//                              .auth_delay = 0s});
//     server.reply_to("AUTH", {454, "4.7.0", "Not now"}, 1);
class Users : public Authenticator {
public:
    // Offers the mechanisms in this order, each "PLAIN" or "LOGIN": std::invalid_argument for another.
    explicit Users(std::map<std::string, std::string> passwords,
                   std::vector<std::string> mechanisms = {"PLAIN", "LOGIN"});

    std::vector<std::string> mechanisms(const Channel&) const override { return mechanisms_; }
    std::unique_ptr<AuthExchange> begin(std::string_view mechanism, const Channel&) override;

private:
    const std::map<std::string, std::string> passwords_;
    const std::vector<std::string> mechanisms_;
};

inline std::shared_ptr<Users> users(std::map<std::string, std::string> passwords) {
    return std::make_shared<Users>(std::move(passwords));
}

}  // namespace Net::SMTP::Test
