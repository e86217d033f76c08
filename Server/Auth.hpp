// Auth -- how clients prove who they are: the interface of SASL mechanisms (RFC 4422) that SMTP's AUTH (RFC 4954) runs.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "Endpoint.hpp"
#include "TLS.hpp"

namespace Net::SMTP {

// What an exchange may know of the connection that it runs over.
struct Channel {
    const TLS* tls = nullptr;  // null: in the clear
    // Channel binding data by its type, see TLSLayer::channel_binding(). Empty: there is none.
    std::function<std::string(std::string_view type)> binding{};
    Endpoint peer{};
    std::string hostname{};  // of the server's side
};

// One exchange, the server's side. Octets are raw here, base64 is the session's. What a client sends is not longer than
// 12,288 octets of base64 at a time.
class AuthExchange {
public:
    struct Step {
        enum class Is {
            challenge,  // `data` goes to the client, whose response comes next
            success,    // `user` is who it is; `data`, if there is any, goes to the client first
            failure,    // 535 5.7.8
            later,      // 454 4.7.0: nobody can tell now
        };
        Is is = Is::failure;
        std::string data{};
        std::string user{};    // also of a failure, where a name was given: for events and logs
        std::string reason{};  // of a failure, for events and logs; the client does not hear it. Of a challenge too,
                               // where that tells that it has failed (RFC 7628 3.2.2)
        std::string proved{};  // of a success: who has proved to be it (RFC 4422's authentication identity), where
                               // that is another than `user`, whom it may act as
    };
    virtual ~AuthExchange() = default;
    // Whether the client speaks first, so that it may send an initial response (RFC 4954 4).
    virtual bool client_first() const { return true; }
    // First with the initial response, or nullopt if there was none; then with each response, "" for an empty one.
    // What it throws is `later` to the client and an Event::Trouble.
    virtual Step step(std::optional<std::string_view> response) = 0;

protected:
    AuthExchange() = default;
    AuthExchange(const AuthExchange&) = default;
    AuthExchange& operator=(const AuthExchange&) = default;
};

// Which mechanisms there are, and who is believed: Options::auth. Sasl is the ready one; derive from it, or from this,
// for mechanisms of your own. Any number of threads may ask at once.
class Authenticator {
public:
    virtual ~Authenticator() = default;
    // The mechanisms for such a connection, the strongest first, by their registered names ("SCRAM-SHA-256"): capital
    // letters, digits, '-' and '_', not more than 20.
    virtual std::vector<std::string> mechanisms(const Channel&) const = 0;
    // Begins an exchange with one of them; null if there is no such mechanism here. The channel lives longer.
    virtual std::unique_ptr<AuthExchange> begin(std::string_view mechanism, const Channel&) = 0;
    // Whether the user is believed about who has submitted a mail (the AUTH parameter of MAIL, RFC 4954 5).
    virtual bool trusted(const std::string& /*user*/) const { return false; }

protected:
    Authenticator() = default;
    Authenticator(const Authenticator&) = default;
    Authenticator& operator=(const Authenticator&) = default;
};

}  // namespace Net::SMTP
