// Login -- who a relay is at its next hop, and how it proves that: the client's side of SMTP AUTH (RFC 4954).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../Server/Auth.hpp"

namespace Net::SMTP {

// One exchange, the client's side. Octets are raw here, base64 is the session's.
class LoginExchange {
public:
    virtual ~LoginExchange() = default;
    // The mechanism's registered name.
    virtual std::string mechanism() const = 0;
    // First with nullopt: the initial response, or nullopt if the server speaks first. Then the response to each
    // challenge; nullopt gives up, because the server is not whom it should be or makes no sense.
    virtual std::optional<std::string> step(std::optional<std::string_view> challenge) = 0;
    // Whether a server that now says 235 may be believed: it has proved itself where the mechanism wants that.
    virtual bool complete() const { return true; }

protected:
    LoginExchange() = default;
    LoginExchange(const LoginExchange&) = default;
    LoginExchange& operator=(const LoginExchange&) = default;
};

// Relay::Options::login. SaslLogin is the ready one. Any number of threads may ask at once.
class Login {
public:
    virtual ~Login() = default;
    // Begins an exchange with the strongest mechanism of those offered that may be used over such a channel: what shows
    // a secret in clear text only where the certificate of the other side is `verified`, unless the user allowed it by
    // name. Null if there is none; `why` says so then.
    virtual std::unique_ptr<LoginExchange> begin(const std::vector<std::string>& offered, const Channel&,
                                                 std::string& why) const = 0;
    // Whose it is, for results and logs, and so that a connection is not used for somebody else. Not the secret.
    virtual std::string user() const = 0;

protected:
    Login() = default;
    Login(const Login&) = default;
    Login& operator=(const Login&) = default;
};

}  // namespace Net::SMTP
